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

const SCOPE: &str = "shop::carts";

async fn change(iii: &IIIClient, user: &Value, op: Value) -> Result<Value, Error> {
    let answer = state(iii, "update", json!({"scope": SCOPE, "key": user, "ops": [op]})).await?;
    Ok(json!({"user": user, "items": answer["new_value"]}))
}

async fn add(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let op = json!({"type": "increment", "path": data["sku"], "by": data["quantity"]});
    change(&iii, &data["user"], op).await
}

async fn remove(iii: IIIClient, data: Value) -> Result<Value, Error> {
    change(&iii, &data["user"], json!({"type": "remove", "path": data["sku"]})).await
}

async fn get(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let items = state(&iii, "get", json!({"scope": SCOPE, "key": data["user"]})).await?;
    let items = if items.is_null() { json!({}) } else { items };
    Ok(json!({"user": data["user"], "items": items}))
}

async fn checkout(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let items = state(&iii, "delete", json!({"scope": SCOPE, "key": data["user"]})).await?;
    match items.as_object() {
        Some(found) if !found.is_empty() => Ok(json!({"user": data["user"], "items": items})),
        _ => Ok(json!({"error": "EMPTY_CART"})),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let iii = register_worker_from_env(InitOptions::default());
    register(&iii, "cart::add", add);
    register(&iii, "cart::remove", remove);
    register(&iii, "cart::get", get);
    register(&iii, "cart::checkout", checkout);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    iii.shutdown();
    Ok(())
}
