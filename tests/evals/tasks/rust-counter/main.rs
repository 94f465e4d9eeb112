use iii_sdk::protocol::{RegisterTriggerInput, TriggerRequest};
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

const SCOPE: &str = "site::hits";

async fn add(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let by = data["by"].as_i64().unwrap_or(1);
    let ops = json!([{"type": "increment", "path": "count", "by": by}]);
    let answer = state(&iii, "update", json!({"scope": SCOPE, "key": data["page"], "ops": ops})).await?;
    Ok(json!({"page": data["page"], "count": answer["new_value"]["count"]}))
}

async fn add_http(iii: IIIClient, req: Value) -> Result<Value, Error> {
    let body = add(iii, json!({"page": req["path_params"]["page"], "by": req["body"]["by"]})).await?;
    Ok(json!({"status_code": 200, "body": body}))
}

async fn get(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let found = state(&iii, "get", json!({"scope": SCOPE, "key": data["page"]})).await?;
    Ok(json!({"page": data["page"], "count": found["count"].as_i64().unwrap_or(0)}))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let iii = register_worker_from_env(InitOptions::default());
    register(&iii, "hits::add", add);
    register(&iii, "hits::add-http", add_http);
    register(&iii, "hits::get", get);
    let config = json!({"api_path": "/hits/:page", "http_method": "POST"});
    #[allow(deprecated)]
    iii.register_trigger(RegisterTriggerInput::new("http", "hits::add-http", config))?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    iii.shutdown();
    Ok(())
}
