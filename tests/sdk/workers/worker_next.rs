//! The worker of the SDK matrix for 0.26, which has `call` for `trigger` and no `register_trigger` any more:
//! on a host without observers it keeps its triggers by calling `engine::register_trigger`.
use iii_sdk::protocol::CallRequest;
use iii_sdk::{Error, IIIClient, InitOptions, RegisterFunction, register_worker};
use serde_json::{Value, json};
use std::time::Duration;

fn print(line: Value) {
    println!("{line}");
}

fn code_of(error: &Error) -> String {
    match error {
        Error::Remote { code, .. } => code.clone(),
        Error::Timeout => "TIMEOUT".into(),
        other => other.to_string(),
    }
}

async fn call(iii: &IIIClient, request: Value) -> Value {
    let id = request["function_id"].as_str().unwrap_or_default();
    match iii.call(CallRequest::new(id, request["payload"].clone())).await {
        Ok(result) => json!({"result": result}),
        Err(error) => json!({"error": code_of(&error)}),
    }
}

async fn keep_triggers(iii: IIIClient) {
    loop {
        let mine = json!({"function_id": "sdk::changed"});
        let found = iii.call(CallRequest::new("engine::registered-triggers::list", mine)).await;
        if found.is_ok_and(|rows| rows["registered_triggers"] == json!([])) {
            for (kind, function_id, config) in [
                ("http", "sdk::call", json!({"api_path": "/call", "http_method": "POST"})),
                ("http", "sdk::fail", json!({"api_path": "/fail", "http_method": "POST"})),
                ("state", "sdk::changed", json!({"scope": "watched"})),
            ] {
                let trigger = json!({"trigger_type": kind, "function_id": function_id, "config": config});
                let _ = iii.call(CallRequest::new("engine::register_trigger", trigger)).await;
            }
            print(json!({"registered": true}));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::main]
async fn main() {
    let url = std::env::var("III_URL").expect("III_URL");
    let iii = register_worker(&url, InitOptions::default());
    let client = iii.clone();
    iii.register_function(
        "sdk::call",
        RegisterFunction::new_async(move |request: Value| {
            let iii = client.clone();
            async move {
                let answer = call(&iii, request["body"].clone()).await;
                Ok::<_, Error>(json!({"status_code": 200, "body": answer}))
            }
        }),
    );
    iii.register_function(
        "sdk::fail",
        RegisterFunction::new_async(|_request: Value| async move {
            Err::<Value, _>(Error::Handler("broken on purpose".into()))
        }),
    );
    iii.register_function(
        "sdk::changed",
        RegisterFunction::new_async(|event: Value| async move {
            print(json!({"event": event}));
            Ok::<_, Error>(json!({}))
        }),
    );
    tokio::spawn(keep_triggers(iii.clone()));
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signal");
    term.recv().await;
    iii.shutdown();
}
