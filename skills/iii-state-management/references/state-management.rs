//! State management: a state worker for iii.
//!
//! Every function has two faces. Called directly, the payload is its input and the answer is the plain
//! result, or `{"error", "code"}`. Over HTTP the input is the body plus the path values, and the answer is
//! `{"status_code", "headers", "body"}`. No value is read, changed and written back: every write is one
//! `state::` call that the host carries out in one step, so calls may run side by side.

use std::env;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};
use iii_helpers::observability::{Logger, OtelConfig};
use iii_sdk::protocol::{RegisterTriggerInput, TriggerRequest};
use iii_sdk::runtime::FunctionRef;
use iii_sdk::trigger::Trigger;
use iii_sdk::{Error, IIIClient, InitOptions, RegisterFunction, register_worker};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Number, Value, json};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

const SCOPE: &str = "products";
const TRANSCRIPTS: &str = "audio::transcripts";
const SAFE_INTEGER: i64 = (1 << 53) - 1; // JavaScript readers lose digits beyond it

type Json = Map<String, Value>;
type Answer = Result<Value, Refused>;

// What the handlers share: refusals, state calls, checks of the input.

/// The call is answered with an error: a status as HTTP has it, a code and details.
struct Refused {
    status: u16,
    code: String,
    message: String,
    details: Json,
}

impl Refused {
    fn new(status: u16, code: &str, message: impl Into<String>, details: Value) -> Self {
        let details = details.as_object().cloned().unwrap_or_default();
        Self { status, code: code.into(), message: message.into(), details }
    }
}

/// The input breaks a rule; the message names the field.
fn invalid(field: &str, rule: &str) -> Refused {
    Refused::new(400, "INVALID_INPUT", format!("{field} {rule}"), json!({"field": field}))
}

/// There is nothing under this key.
fn not_found(what: &str, key: &str) -> Refused {
    Refused::new(404, "NOT_FOUND", format!("{what} not found"), json!({"id": key}))
}

/// The `state::` functions of the host; whatever goes wrong there becomes a Refused.
#[derive(Clone)]
struct State {
    iii: IIIClient,
    log: Logger,
}

impl State {
    /// Call `state::<function>`. After a timeout a write may have happened, and the answer says so.
    async fn call(&self, function: &str, payload: Value) -> Answer {
        let request = TriggerRequest::new(format!("state::{function}"), payload);
        self.iii.trigger(request).await.map_err(|error| {
            self.log.error(&format!("state::{function} failed: {error}"), None);
            match error {
                Error::Timeout => {
                    let retry_safe = matches!(function, "get" | "list" | "delete");
                    let message = format!("state::{function} timed out");
                    Refused::new(504, "TIMEOUT", message, json!({"retry_safe": retry_safe}))
                }
                Error::Remote { code, .. } => {
                    let status = if code == "VALUE_TOO_LARGE" { 413 } else { 502 };
                    Refused::new(status, &code, format!("state::{function} failed"), json!({}))
                }
                _ => Refused::new(502, "STATE_ERROR", format!("state::{function} failed"), json!({})),
            }
        })
    }

    /// Apply `ops` in one step; gives `old_value` and `new_value`.
    async fn update(&self, scope: &str, key: &str, ops: Value) -> Answer {
        self.call("update", json!({"scope": scope, "key": key, "ops": ops})).await
    }

    /// A value that an op does not fit, such as text where a number belongs, is a damaged record.
    fn refuse_errors(&self, key: &str, result: &Value) -> Result<(), Refused> {
        let Some(errors) = result["errors"].as_array().filter(|errors| !errors.is_empty()) else {
            return Ok(());
        };
        self.log.error(&format!("update of {key} skipped ops: {}", json!(errors)), None);
        let message = "the stored value does not fit the change";
        Err(Refused::new(500, "CORRUPT_RECORD", message, json!({"id": key})))
    }

    /// The product with this id; anything else in the store counts as missing.
    async fn record(&self, key: &str) -> Answer {
        let value = self.call("get", json!({"scope": SCOPE, "key": key})).await?;
        if is_record(&value, key) { Ok(value) } else { Err(not_found("product", key)) }
    }

    /// Apply `ops` to an existing product and give its new value.
    ///
    /// An update creates a key that is missing, for instance one that was removed a moment ago. Whoever did
    /// that takes it away again; ids are never used twice, so this cannot hit a live record.
    async fn change(&self, key: &str, ops: Value) -> Answer {
        let mut result = self.update(SCOPE, key, ops).await?;
        let old = &result["old_value"];
        if !is_record(old, key) {
            if old.is_null() || old.as_object().is_some_and(|old| !old.contains_key("id")) {
                self.call("delete", json!({"scope": SCOPE, "key": key})).await?;
            }
            return Err(not_found("product", key));
        }
        self.refuse_errors(key, &result)?;
        Ok(result["new_value"].take())
    }
}

/// A stored value counts only when it is an object that carries its own id.
fn is_record(value: &Value, key: &str) -> bool {
    value.get("id").and_then(Value::as_str) == Some(key)
}

/// `YYYY-MM-DDTHH:MM:SS.mmmZ`: as text it sorts in order of time.
fn timestamp(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The time in UTC.
fn now() -> String {
    timestamp(Utc::now())
}

/// 1 to 64 letters, digits, underscores and hyphens.
fn identifier(data: &Json, field: &str) -> Result<String, Refused> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    match data.get(field).and_then(Value::as_str) {
        Some(id) if (1..=64).contains(&id.len()) && id.bytes().all(allowed) => Ok(id.to_owned()),
        _ => Err(invalid(field, "must be 1 to 64 letters, digits, '_' or '-'")),
    }
}

/// Text of 1 to 200 characters without blanks around it.
fn text(data: &Json, field: &str) -> Result<String, Refused> {
    let text = data.get(field).and_then(Value::as_str).unwrap_or_default().trim();
    if (1..=200).contains(&text.chars().count()) {
        Ok(text.to_owned())
    } else {
        Err(invalid(field, "must be text of 1 to 200 characters"))
    }
}

/// A number from 0 with at most 2 decimals, kept as it came.
fn amount(data: &Json, field: &str) -> Result<Number, Refused> {
    let number = data.get(field).and_then(Value::as_number);
    let Some((number, value)) = number.and_then(|number| Some((number, number.as_f64()?))) else {
        return Err(invalid(field, "must be a number of 0 or more"));
    };
    if value < 0.0 {
        return Err(invalid(field, "must be a number of 0 or more"));
    }
    let shortest = number.to_string();
    if value.fract() != 0.0 && shortest.split_once('.').is_none_or(|(_, decimals)| decimals.len() > 2) {
        return Err(invalid(field, "must not have more than 2 decimals"));
    }
    Ok(number.clone())
}

/// A whole number between `low` and `high`.
fn integer(data: &Json, field: &str, low: i64, high: i64) -> Result<i64, Refused> {
    match data.get(field).and_then(Value::as_i64) {
        Some(value) if (low..=high).contains(&value) => Ok(value),
        _ => Err(invalid(field, &format!("must be a whole number from {low} to {high}"))),
    }
}

// The functions.

/// Store a new product. Its id is random: nobody else writes this key.
async fn create_product(state: State, mut data: Json) -> Answer {
    data.entry("stock").or_insert(json!(0));
    let id = format!("prod-{}", Uuid::new_v4().simple());
    let record = json!({
        "id": id,
        "name": text(&data, "name")?,
        "price": amount(&data, "price")?,
        "category": text(&data, "category")?,
        "stock": integer(&data, "stock", 0, SAFE_INTEGER)?,
        "created_at": now(),
    });
    state.call("set", json!({"scope": SCOPE, "key": id, "value": record})).await?;
    Ok(record)
}

/// One product.
async fn get_product(state: State, data: Json) -> Answer {
    state.record(&identifier(&data, "id")?).await
}

/// Every product, oldest first, or a page of `limit` behind `after`, the last `next`.
async fn list_products(state: State, data: Json) -> Answer {
    let (limit, after) = page_of(&data)?;
    let mut values = state.call("list", json!({"scope": SCOPE})).await?;
    let mut records = values.as_array_mut().map(std::mem::take).unwrap_or_default();
    records.retain(|value| value.get("id").is_some_and(Value::is_string) && place_of(value) > after);
    records.sort_by_key(place_of);
    let next = records.get(limit).map(|_| place_of(&records[limit - 1]));
    records.truncate(limit);
    let mut answer = json!({"count": records.len(), "products": records});
    if let Some(next) = next {
        answer["next"] = json!(next);
    }
    Ok(answer)
}

/// Where a record stands in the list; it keeps its place when others are removed.
fn place_of(record: &Value) -> String {
    let text = |field: &str| record[field].as_str().unwrap_or_default();
    format!("{}~{}", text("created_at"), text("id"))
}

/// `limit` and `after`. A query has digits where a direct call has a number.
fn page_of(data: &Json) -> Result<(usize, String), Refused> {
    let given = |field: &str| data.get(field).filter(|value| !value.is_null());
    let limit = given("limit").map_or(Some(usize::MAX), |value| {
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
        number.filter(|number| (1..=1000).contains(number)).map(|number| number as usize)
    });
    let after = given("after").map_or(Some(""), |value| value.as_str().filter(|text| text.contains('~')));
    let limit = limit.ok_or_else(|| invalid("limit", "must be a whole number from 1 to 1000"))?;
    let after = after.ok_or_else(|| invalid("after", "must be the `next` of a page"))?;
    Ok((limit, after.to_owned()))
}

/// Remove a product. Of several calls at once the one that got the old value did it.
async fn remove_product(state: State, data: Json) -> Answer {
    let key = identifier(&data, "id")?;
    let removed = state.call("delete", json!({"scope": SCOPE, "key": key})).await?;
    if !is_record(&removed, &key) {
        return Err(not_found("product", &key));
    }
    Ok(json!({"deleted": key}))
}

/// Set the price of a product.
async fn update_price(state: State, data: Json) -> Answer {
    let key = identifier(&data, "id")?;
    let value = amount(&data, "newPrice")?;
    let ops = json!([
        {"type": "set", "path": "price", "value": value},
        {"type": "set", "path": "updated_at", "value": now()},
    ]);
    let record = state.change(&key, ops).await?;
    Ok(json!({"id": key, "price": record["price"]}))
}

/// Add to the stock of a product, or take from it what is there.
///
/// The increment decides: calls that run side by side cannot take more than there is. One that went below
/// zero is taken back; the look beforehand only spares others from meeting such a moment.
async fn adjust_stock(state: State, data: Json) -> Answer {
    let key = identifier(&data, "id")?;
    let adjustment = integer(&data, "adjustment", -SAFE_INTEGER, SAFE_INTEGER)?;
    if adjustment == 0 {
        return Err(invalid("adjustment", "must not be 0"));
    }
    if adjustment < 0 {
        let current = state.record(&key).await?.get("stock").cloned().unwrap_or(json!(0));
        refuse_below_zero(&current, adjustment)?;
    }
    let ops = json!([
        {"type": "increment", "path": "stock", "by": adjustment},
        {"type": "set", "path": "last_stock_change", "value": now()},
    ]);
    let value = state.change(&key, ops).await?["stock"].take();
    let previous = plus(&value, -adjustment);
    if adjustment < 0 && value.as_f64().is_some_and(|value| value < 0.0) {
        let undo = json!([{"type": "increment", "path": "stock", "by": -adjustment}]);
        state.change(&key, undo).await?;
        refuse_below_zero(&previous, adjustment)?;
    }
    Ok(json!({
        "id": key,
        "previousStock": previous,
        "newStock": value,
    }))
}

/// `value` plus `by`: a whole number stays one.
fn plus(value: &Value, by: i64) -> Value {
    match value.as_i64() {
        Some(whole) => json!(whole + by),
        None => json!(value.as_f64().map(|value| value + by as f64)),
    }
}

/// Refuse to take more than there is; a value that is no number is left to the increment.
fn refuse_below_zero(current: &Value, adjustment: i64) -> Result<(), Refused> {
    if plus(current, adjustment).as_f64().is_none_or(|value| value >= 0.0) {
        return Ok(());
    }
    let details = json!({"current": current, "requested": adjustment});
    let message = "the stock is not sufficient";
    Err(Refused::new(409, "INSUFFICIENT_STOCK", message, details))
}

/// Add a piece of speech to the transcript of a session: one call, and every chunk keeps its place.
async fn record_chunk(state: State, data: Json) -> Answer {
    let session = identifier(&data, "sessionId")?;
    let (author, chunk) = (text(&data, "author")?, text(&data, "chunk")?);
    let at = Utc::now().timestamp_millis();
    let ops = json!([
        {"type": "merge", "path": ["metadata"], "value": {"author": author}},
        {"type": "append", "path": ["chunks"], "value": {"at": at, "author": author, "text": chunk}},
    ]);
    let result = state.update(TRANSCRIPTS, &session, ops).await?;
    state.refuse_errors(&session, &result)?;
    let count = result["new_value"]["chunks"].as_array().map(Vec::len);
    Ok(json!({"sessionId": session, "timestamp": at, "count": count}))
}

/// The host calls this after every change in SCOPE, with the old and the new value.
fn on_change(log: &Logger, event: &Value) -> Value {
    log.info(&format!("changed: {} {}", event["event_type"], event["key"]), None);
    json!({})
}

// The worker.

/// Answers calls with the functions above, knows how many are running, and can take back what it published.
#[derive(Clone)]
struct Worker {
    state: State,
    running: Arc<AtomicUsize>,
    triggers: Arc<Mutex<Vec<Trigger>>>,
    functions: Arc<Mutex<Vec<FunctionRef>>>,
}

/// How a function is reached over HTTP.
#[derive(Clone, Copy)]
struct Route {
    method: &'static str,
    path: &'static str,
    status: u16,
}

impl Worker {
    /// Publish what follows changes, then every function and its route.
    fn register(&self) -> Result<(), Error> {
        let log = self.state.log.clone();
        let changed = noting(move |event| on_change(&log, event));
        self.watch("products::on-change", SCOPE, changed)?;
        let route = |method, path, status| Route { method, path, status };
        self.publish("products::create", route("POST", "/products", 201), create_product)?;
        self.publish("products::get", route("GET", "/products/:id", 200), get_product)?;
        self.publish("products::list-all", route("GET", "/products", 200), list_products)?;
        self.publish("products::remove", route("DELETE", "/products/:id", 200), remove_product)?;
        self.publish("products::update-price", route("PUT", "/products/:id/price", 200), update_price)?;
        self.publish("products::adjust-stock", route("POST", "/products/:id/stock", 200), adjust_stock)?;
        self.publish(
            "transcripts::record-chunk",
            route("POST", "/transcripts/:sessionId/chunks", 201),
            record_chunk,
        )?;
        Ok(())
    }

    /// Have the host call a function after every change in the scope.
    fn watch(&self, id: &str, scope: &str, function: RegisterFunction) -> Result<(), Error> {
        self.listen(id, function, "state", json!({"scope": scope}))
    }

    /// Have a function called by a trigger of this kind.
    fn listen(&self, id: &str, function: RegisterFunction, kind: &str, config: Value) -> Result<(), Error> {
        self.function(id, function);
        self.trigger(kind, id, config)
    }

    /// Publish `handler` under `id`, and over HTTP at `route`.
    fn publish<H, F>(&self, id: &'static str, route: Route, handler: H) -> Result<(), Error>
    where
        H: Fn(State, Json) -> F + Copy + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let worker = self.clone();
        let answering = RegisterFunction::new_async(move |payload: Value| {
            let worker = worker.clone();
            async move {
                worker.running.fetch_add(1, Ordering::SeqCst);
                let answer = worker.answer(route, handler, payload).await;
                worker.running.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Error>(answer)
            }
        });
        self.function(id, answering);
        self.trigger("http", id, json!({"api_path": route.path, "http_method": route.method}))
    }

    /// Register a function.
    fn function(&self, id: &str, function: RegisterFunction) {
        let published = self.state.iii.register_function(id, function);
        self.functions.lock().unwrap().push(published);
    }

    /// Register a trigger; SDK 0.25 marks this way as old, the way to come does not work with hosts of today.
    #[allow(deprecated)]
    fn trigger(&self, kind: &str, id: &str, config: Value) -> Result<(), Error> {
        let published = self.state.iii.register_trigger(RegisterTriggerInput::new(kind, id, config))?;
        self.triggers.lock().unwrap().push(published);
        Ok(())
    }

    /// Run the handler with its input checked and give its outcome in the caller's form.
    async fn answer<H, F>(&self, route: Route, handler: H, payload: Value) -> Value
    where
        H: Fn(State, Json) -> F,
        F: Future<Output = Answer>,
    {
        let http = payload.get("path_params").is_some() && payload.get("method").is_some();
        let input = if http { http_input(&payload) } else { direct_input(payload) };
        let outcome = match input {
            Ok(data) => handler(self.state.clone(), data).await,
            Err(refused) => Err(refused),
        };
        match outcome {
            Ok(result) if http => http_answer(route, result),
            Ok(result) => result,
            Err(Refused { status, code, message, mut details }) if http => {
                details.insert("code".into(), json!(code));
                details.insert("message".into(), json!(message));
                json!({"status_code": status, "body": {"error": details}})
            }
            Err(Refused { code, message, mut details, .. }) => {
                details.insert("error".into(), json!(message));
                details.insert("code".into(), json!(code));
                Value::Object(details)
            }
        }
    }

    /// Take back what was published, let running calls end and their answers leave, then disconnect.
    async fn finish(&self, wait: Duration) {
        self.triggers.lock().unwrap().drain(..).for_each(|trigger| trigger.unregister());
        self.round_trip().await;
        self.functions.lock().unwrap().drain(..).for_each(|function| function.unregister());
        let (deadline, mut quiet) = (Instant::now() + wait, 0);
        while quiet < 3 && Instant::now() < deadline {
            self.round_trip().await;
            quiet = if self.running.load(Ordering::SeqCst) > 0 { 0 } else { quiet + 1 };
        }
        self.state.iii.shutdown();
    }

    /// Ask the host something: it keeps the order, so whatever was sent before has arrived.
    async fn round_trip(&self) {
        let probe = TriggerRequest::new("state::get", json!({"scope": SCOPE, "key": "none"}));
        let _ = tokio::time::timeout(Duration::from_secs(1), self.state.iii.trigger(probe)).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the SDK calls for an event that is only noted.
fn noting(note: impl Fn(&Value) -> Value + Send + Sync + 'static) -> RegisterFunction {
    RegisterFunction::new_async(move |event: Value| {
        let answer = note(&event);
        async move { Ok::<_, Error>(answer) }
    })
}

/// The payload of a direct call.
fn direct_input(payload: Value) -> Result<Json, Refused> {
    match payload {
        Value::Object(data) => Ok(data),
        _ => Err(invalid("payload", "must be an object")),
    }
}

/// Body and path values of a request, and the query of a GET; path values win.
///
/// The host has decoded the query and leaves the percent signs of a path as they came.
fn http_input(request: &Value) -> Result<Json, Refused> {
    let may_be_empty = matches!(request["method"].as_str(), Some("GET" | "DELETE"));
    let query = request["query_params"].as_object().filter(|_| request["method"] == "GET");
    let mut data = query.cloned().unwrap_or_default();
    match request.get("body") {
        Some(Value::Object(body)) => data.extend(body.clone()),
        None | Some(Value::Null) if may_be_empty => (),
        _ => return Err(invalid("body", "must be a JSON object")),
    }
    for (name, value) in request["path_params"].as_object().into_iter().flatten() {
        let decoded = percent_decode_str(value.as_str().unwrap_or_default()).decode_utf8();
        let text = decoded.map_err(|_| invalid(name, "must be percent-encoded UTF-8"))?;
        data.insert(name.clone(), json!(text));
    }
    Ok(data)
}

/// The envelope that the host turns into a response; what was created gets its address.
fn http_answer(route: Route, result: Value) -> Value {
    let mut answer = json!({"status_code": route.status, "body": result});
    if let (201, Some(id)) = (route.status, answer["body"]["id"].as_str()) {
        answer["headers"] = json!({"location": format!("{}/{id}", route.path)});
    }
    answer
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let url = env::var("III_URL").or_else(|_| env::var("III_ENGINE_URL"));
    let url = url.unwrap_or_else(|_| "ws://127.0.0.1:49134".into());
    // Telemetry is off unless OTEL_ENABLED asks for it; with it the Logger writes there and not to stderr.
    let silent = OtelConfig { enabled: Some(false), ..OtelConfig::default() };
    let otel = env::var("OTEL_ENABLED").is_err().then_some(silent);
    let iii = register_worker(&url, InitOptions { otel, ..InitOptions::default() });
    let log = Logger::new();
    let state = State { iii, log };
    let (triggers, functions) = (Arc::default(), Arc::default());
    let worker = Worker { state, running: Arc::default(), triggers, functions };
    worker.register()?;
    worker.state.log.info("ready", None);
    tokio::select! {
        _ = interrupt.recv() => (),
        _ = terminate.recv() => (),
    }
    worker.finish(Duration::from_secs(10)).await;
    Ok(())
}
