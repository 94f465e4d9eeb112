//! A worker that sells, and orders again what is sold out.
use iii_sdk::protocol::{RegisterTriggerInput, TriggerRequest};
use iii_sdk::{Error, IIIClient, InitOptions, RegisterFunction, register_worker_from_env};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

async fn add(iii: &IIIClient, scope: &str, key: &Value, path: &str, by: i64) -> Result<Value, Error> {
    let ops = json!([{"type": "increment", "path": path, "by": by}]);
    iii.trigger(TriggerRequest::new(
        "state::update",
        json!({"scope": scope, "key": key, "ops": ops}),
    ))
    .await
}

#[allow(deprecated)]
fn trigger(iii: &IIIClient, kind: &str, function_id: &str, config: Value) {
    iii.register_trigger(RegisterTriggerInput::new(kind, function_id, config))
        .expect("trigger");
}

#[tokio::main]
async fn main() {
    println!("the shop opens");
    let iii = register_worker_from_env(InitOptions::default());
    let client = iii.clone();
    iii.register_function(
        "shop::sell",
        RegisterFunction::new_async(move |request: Value| {
            let iii = client.clone();
            async move {
                let done = add(&iii, "shop", &request["body"]["id"], "stock", -1).await?;
                Ok::<_, Error>(json!({"status_code": 201, "body": done["new_value"]}))
            }
        }),
    );
    let client = iii.clone();
    iii.register_function(
        "shop::reorder",
        RegisterFunction::new_async(move |event: Value| {
            let iii = client.clone();
            async move {
                if event["new_value"]["stock"] == 0 {
                    add(&iii, "orders", &event["key"], "ordered", 1).await?;
                }
                Ok::<_, Error>(json!({}))
            }
        }),
    );
    trigger(
        &iii,
        "http",
        "shop::sell",
        json!({"api_path": "/sell", "http_method": "POST"}),
    );
    trigger(&iii, "state", "shop::reorder", json!({"scope": "shop"}));
    signal(SignalKind::terminate()).expect("SIGTERM").recv().await;
    iii.shutdown();
}
