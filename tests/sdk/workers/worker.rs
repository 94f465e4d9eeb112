//! A worker of the SDK matrix: it does what the test asks over HTTP and prints what happens as JSON lines.
use iii_sdk::protocol::{RegisterTriggerInput, TriggerRequest};
use iii_sdk::{Error, IIIClient, InitOptions, RegisterFunction, register_worker};
use serde_json::{Value, json};

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
    let done = iii.trigger(TriggerRequest::new(id, request["payload"].clone())).await;
    match done {
        Ok(result) => json!({"result": result}),
        Err(error) => json!({"error": code_of(&error)}),
    }
}

#[allow(deprecated)]
fn trigger(iii: &IIIClient, kind: &str, function_id: &str, config: Value) {
    iii.register_trigger(RegisterTriggerInput::new(kind, function_id, config)).expect("trigger");
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
    trigger(&iii, "http", "sdk::call", json!({"api_path": "/call", "http_method": "POST"}));
    trigger(&iii, "http", "sdk::fail", json!({"api_path": "/fail", "http_method": "POST"}));
    trigger(&iii, "state", "sdk::changed", json!({"scope": "watched"}));
    print(json!({"registered": true}));
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("signal");
    term.recv().await;
    iii.shutdown();
}
