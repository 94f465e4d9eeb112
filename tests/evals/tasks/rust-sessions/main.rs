use iii_sdk::protocol::TriggerRequest;
use iii_sdk::{Error, IIIClient, InitOptions, RegisterFunction, register_worker_from_env};
use serde_json::{Value, json};

async fn state(iii: &IIIClient, name: &str, payload: Value) -> Result<Value, Error> {
    iii.trigger(TriggerRequest::new(format!("state::{name}"), payload)).await
}

fn register<F, Fut>(iii: &IIIClient, id: &str, handler: F)
where
    F: Fn(IIIClient, Value) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, Error>> + Send + 'static,
{
    let client = iii.clone();
    iii.register_function(id, RegisterFunction::new_async(move |req: Value| handler(client.clone(), req)));
}

const SCOPE: &str = "auth::sessions";

fn missing() -> Value {
    json!({"error": "NOT_FOUND"})
}

async fn open(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let id = uuid::Uuid::new_v4().simple().to_string();
    let session = json!({"id": id, "user": data["user"], "data": {}});
    state(&iii, "set", json!({"scope": SCOPE, "key": id, "value": session})).await?;
    Ok(session)
}

async fn get(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let found = state(&iii, "get", json!({"scope": SCOPE, "key": data["id"]})).await?;
    Ok(if found.is_null() { missing() } else { found })
}

async fn put(iii: IIIClient, data: Value) -> Result<Value, Error> {
    if state(&iii, "get", json!({"scope": SCOPE, "key": data["id"]})).await?.is_null() {
        return Ok(missing());
    }
    let field = data["field"].as_str().unwrap_or_default();
    let ops = json!([{"type": "merge", "path": ["data"], "value": {field: data["value"]}}]);
    let answer = state(&iii, "update", json!({"scope": SCOPE, "key": data["id"], "ops": ops})).await?;
    if answer["old_value"].is_null() {
        // Closed in between: the update made a ghost.
        state(&iii, "delete", json!({"scope": SCOPE, "key": data["id"]})).await?;
        return Ok(missing());
    }
    Ok(answer["new_value"].clone())
}

async fn close(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let gone = state(&iii, "delete", json!({"scope": SCOPE, "key": data["id"]})).await?;
    Ok(if gone.is_null() { missing() } else { json!({"closed": true}) })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let iii = register_worker_from_env(InitOptions::default());
    register(&iii, "sessions::open", open);
    register(&iii, "sessions::get", get);
    register(&iii, "sessions::put", put);
    register(&iii, "sessions::close", close);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    iii.shutdown();
    Ok(())
}
