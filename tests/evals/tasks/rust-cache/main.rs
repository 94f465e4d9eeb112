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

const SCOPE: &str = "app::cache";

async fn count(iii: &IIIClient, path: &str) -> Result<(), Error> {
    let ops = json!([{"type": "increment", "path": path, "by": 1}]);
    state(iii, "update", json!({"scope": "app::cache-stats", "key": "all", "ops": ops})).await?;
    Ok(())
}

async fn get(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let key = &data["key"];
    let found = state(&iii, "get", json!({"scope": SCOPE, "key": key})).await?;
    if !found.is_null() {
        count(&iii, "hits").await?;
        return Ok(json!({"key": key, "value": found["value"], "hit": true}));
    }
    let computed = iii.trigger(TriggerRequest::new("slow::compute", json!({"key": key}))).await?;
    let value = &computed["value"];
    state(&iii, "set", json!({"scope": SCOPE, "key": key, "value": {"value": value}})).await?;
    count(&iii, "misses").await?;
    Ok(json!({"key": key, "value": value, "hit": false}))
}

async fn forget(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let gone = state(&iii, "delete", json!({"scope": SCOPE, "key": data["key"]})).await?;
    Ok(json!({"forgotten": !gone.is_null()}))
}

async fn stats(iii: IIIClient, _data: Value) -> Result<Value, Error> {
    let found = state(&iii, "get", json!({"scope": "app::cache-stats", "key": "all"})).await?;
    let number = |name: &str| found[name].as_i64().unwrap_or(0);
    Ok(json!({"hits": number("hits"), "misses": number("misses")}))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let iii = register_worker_from_env(InitOptions::default());
    register(&iii, "cache::get", get);
    register(&iii, "cache::forget", forget);
    register(&iii, "cache::stats", stats);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    iii.shutdown();
    Ok(())
}
