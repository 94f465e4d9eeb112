use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

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

const SCOPE: &str = "links::links";
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn fresh_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos();
    format!("{:x}-{now:x}-{:x}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn answer(status: u16, body: Value) -> Result<Value, Error> {
    Ok(json!({"status_code": status, "body": body}))
}

async fn create(iii: IIIClient, req: Value) -> Result<Value, Error> {
    let body = &req["body"];
    let slug = match &body["slug"] {
        Value::Null => fresh_id(),
        Value::String(slug) => slug.clone(),
        _ => return answer(400, json!({"error": "INVALID"})),
    };
    let Some(url) = body["url"].as_str() else {
        return answer(400, json!({"error": "INVALID"}));
    };
    let entry = json!({"id": fresh_id(), "url": url});
    let ops = json!([{"type": "append", "path": "tries", "value": entry}]);
    let stored = state(&iii, "update", json!({"scope": SCOPE, "key": slug, "ops": ops})).await?;
    if stored["new_value"]["tries"][0]["id"] != entry["id"] {
        return answer(409, json!({"error": "TAKEN"}));
    }
    answer(201, json!({"slug": slug, "url": url}))
}

async fn follow(iii: IIIClient, req: Value) -> Result<Value, Error> {
    let slug = &req["path_params"]["slug"];
    let link = state(&iii, "get", json!({"scope": SCOPE, "key": slug})).await?;
    let Some(url) = link["tries"][0]["url"].as_str() else {
        return answer(404, json!({"error": "NOT_FOUND"}));
    };
    let ops = json!([{"type": "increment", "path": "clicks", "by": 1}]);
    state(&iii, "update", json!({"scope": SCOPE, "key": slug, "ops": ops})).await?;
    Ok(json!({"status_code": 302, "headers": {"location": url}, "body": {}}))
}

async fn stats(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let link = state(&iii, "get", json!({"scope": SCOPE, "key": data["slug"]})).await?;
    let Some(url) = link["tries"][0]["url"].as_str() else {
        return Ok(json!({"error": "NOT_FOUND"}));
    };
    Ok(json!({"slug": data["slug"], "url": url, "clicks": link["clicks"].as_i64().unwrap_or(0)}))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let iii = register_worker_from_env(InitOptions::default());
    register(&iii, "links::create", create);
    register(&iii, "links::follow", follow);
    register(&iii, "links::stats", stats);
    for (id, path, method) in [("links::create", "/links", "POST"), ("links::follow", "/l/:slug", "GET")] {
        let config = json!({"api_path": path, "http_method": method});
        #[allow(deprecated)]
        iii.register_trigger(RegisterTriggerInput::new("http", id, config))?;
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    iii.shutdown();
    Ok(())
}
