use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

const SCOPE: &str = "hall::events";

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as i64
}

/// Read, compute, store only if nobody was faster. `compute` gives the new value, or the answer instead.
async fn change<F>(iii: &IIIClient, key: &Value, compute: F) -> Result<Option<Value>, Error>
where
    F: Fn(Value) -> Result<Value, Value>,
{
    let until = now() + 10_000;
    let mut tries = 0;
    while now() < until {
        let current = state(iii, "get", json!({"scope": SCOPE, "key": key})).await?;
        let value = match compute(current.clone()) {
            Ok(value) => value,
            Err(answer) => return Ok(Some(answer)),
        };
        let mut payload = json!({"scope": SCOPE, "key": key, "value": value});
        if !current.is_null() {
            payload["expected"] = current;
        }
        if state(iii, "compare-and-set", payload).await?["swapped"] == true {
            return Ok(None);
        }
        tries += 1;
        tokio::time::sleep(Duration::from_millis((now() as u64 % 7) * tries)).await;
    }
    Err(Error::Handler("changed too often".into()))
}

/// A seat is {name, who, ends, sold, before}: `before` are those who held it.
fn place_of(event: &Value, seat: &Value) -> Option<usize> {
    event["seats"].as_array()?.iter().position(|one| &one["name"] == seat)
}

fn is_free(seat: &Value) -> bool {
    seat["sold"] != true && seat["ends"].as_i64().unwrap_or(0) <= now()
}

fn missing() -> Value {
    json!({"error": "NOT_FOUND"})
}

async fn open(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let names = data["seats"].as_array().cloned().unwrap_or_default();
    let seats: Vec<Value> = names.iter().map(|name| json!({"name": name, "before": []})).collect();
    let refused = change(&iii, &data["event"], |event| match event {
        Value::Null => Ok(json!({"id": data["event"], "seats": seats})),
        _ => Err(json!({"opened": false})),
    })
    .await?;
    Ok(refused.unwrap_or(json!({"opened": true})))
}

async fn hold(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let who = &data["who"];
    let refused = change(&iii, &data["event"], |mut event| {
        let place = place_of(&event, &data["seat"]).ok_or_else(missing)?;
        let seat = &mut event["seats"][place];
        if !is_free(seat) && (seat["sold"] == true || &seat["who"] != who) {
            return Err(json!({"error": "TAKEN"}));
        }
        seat["who"] = who.clone();
        seat["ends"] = json!(now() + data["hold_ms"].as_i64().unwrap_or(0));
        let before = seat["before"].as_array_mut().expect("a list");
        if !before.contains(who) {
            before.push(who.clone());
        }
        Ok(event)
    })
    .await?;
    Ok(refused.unwrap_or(json!({"held": true})))
}

async fn confirm(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let who = &data["who"];
    let refused = change(&iii, &data["event"], |mut event| {
        let place = place_of(&event, &data["seat"]).ok_or_else(missing)?;
        let seat = &mut event["seats"][place];
        if !seat["before"].as_array().is_some_and(|before| before.contains(who)) {
            return Err(missing());
        }
        if &seat["who"] != who || is_free(seat) {
            return Err(json!({"error": "EXPIRED"}));
        }
        seat["sold"] = json!(true);
        Ok(event)
    })
    .await?;
    Ok(refused.unwrap_or(json!({"sold": true})))
}

async fn free(iii: IIIClient, data: Value) -> Result<Value, Error> {
    let event = state(&iii, "get", json!({"scope": SCOPE, "key": data["event"]})).await?;
    let Some(seats) = event["seats"].as_array() else {
        return Ok(missing());
    };
    let names: Vec<&Value> = seats.iter().filter(|seat| is_free(seat)).map(|seat| &seat["name"]).collect();
    Ok(json!({"free": names}))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let iii = register_worker_from_env(InitOptions::default());
    register(&iii, "seats::open", open);
    register(&iii, "seats::hold", hold);
    register(&iii, "seats::confirm", confirm);
    register(&iii, "seats::free", free);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    iii.shutdown();
    Ok(())
}
