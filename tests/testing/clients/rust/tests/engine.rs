//! Every verb of iii-skill-test against real workers of the real SDK.
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use iii_sdk::{Error, InitOptions, RegisterFunction, register_worker};
use iii_skill_test::{Engine, Options, Ready, Value, called, event, json};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

fn failure(test: impl FnOnce() + Send + 'static) -> String {
    let panic = thread::spawn(test).join().expect_err("it fails");
    panic
        .downcast_ref::<String>()
        .cloned()
        .unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap().to_string())
}

#[test]
fn a_worker_sells_and_what_it_does_is_seen() {
    let engine = Engine::start();
    let worker = engine.worker(SHOP);
    assert_eq!(worker.functions, ["shop::reorder", "shop::sell"]);
    engine.state().set("shop", "chair", json!({"stock": 1}));
    engine
        .http()
        .post("/sell", json!({"id": "chair"}))
        .expect(201, json!({"stock": 0}));
    let sold = engine
        .events()
        .expect(event().scope("shop").key("chair").kind("state:updated"));
    assert_eq!(
        (sold.old_value(), sold.new_value()),
        (Some(json!({"stock": 1})), Some(json!({"stock": 0})))
    );
    engine.settle();
    assert_eq!(engine.state().list("orders")["chair"], json!({"ordered": 1}));
    assert_eq!(engine.calls().expect("shop::reorder").payload["key"], "chair");
    assert!(worker.output().contains("the shop opens"));
    assert!(worker.ended().is_none());
    assert_eq!(worker.stop().code(), Some(0));
}

#[test]
fn a_lost_answer_was_a_write_all_the_same() {
    let engine = Engine::start();
    engine.worker(SHOP);
    engine.state().set("shop", "chair", json!({"stock": 3}));
    let fault = engine.faults().lose_reply("state::update").begin();
    engine
        .http()
        .post("/sell", json!({"id": "chair"}))
        .expect_status(500);
    assert_eq!(fault.hits(), 1);
    assert_eq!(engine.state().get("shop", "chair"), Some(json!({"stock": 2})));
    assert_eq!(
        engine.calls().of("state::update")[0].fault.as_deref(),
        Some("lose_reply state::update")
    );
}

#[test]
fn a_worker_comes_back_after_a_restart_and_a_broken_connection() {
    let engine = Engine::start();
    engine.worker(SHOP);
    engine.state().set("shop", "chair", json!({"stock": 3}));
    engine.faults().restart();
    engine.ready(&["shop::sell", "shop::reorder"]);
    assert_eq!(engine.faults().drop_connections(), 1);
    engine.calls().expect(
        called("engine::workers::register")
            .count(3)
            .within(Duration::from_secs(20)),
    );
    engine.settle();
    engine
        .http()
        .post("/sell", json!({"id": "chair"}))
        .expect(201, json!({"stock": 2}));
}

#[test]
fn a_client_inside_the_test_registers() {
    let engine = Engine::start();
    let iii = register_worker(engine.url(), InitOptions::default());
    let add =
        |data: Value| async move { Ok::<_, Error>(json!({"sum": data["a"].as_i64().unwrap_or(0) + 1})) };
    iii.register_function("sum::add", RegisterFunction::new_async(add));
    engine.ready(&["sum::add"]);
    assert_eq!(
        engine.call::<Value>("sum::add", json!({"a": 1})),
        Ok(json!({"sum": 2}))
    );
    assert_eq!(engine.functions(), ["sum::add"]);
    iii.shutdown();
}

#[tokio::test]
async fn it_works_inside_an_async_test() {
    let engine = Engine::start();
    engine.worker(SHOP);
    engine.state().set("shop", "chair", json!({"stock": 3}));
    engine
        .http()
        .post("/sell", json!({"id": "chair"}))
        .expect(201, json!({"stock": 2}));
}

#[test]
fn a_call_that_fails_has_a_code() {
    let error = Engine::start().call::<Value>("no::such", json!({})).unwrap_err();
    assert_eq!(error.code, "function_not_found");
}

#[test]
fn values_are_exact() {
    let engine = Engine::start();
    let text = r#"{"big":9007199254740993,"huge":123456789012345678901234567890,"e":1E2,"one":1.0}"#;
    engine.state().set_text("a", "k", text);
    let kept = engine.state().snapshot();
    assert_eq!(kept.text, format!("{{\"a\":{{\"k\":{text}}}}}"));
    assert_eq!(kept.contents()["a"]["k"]["big"], 9007199254740993_u64);
    engine.state().load(json!({"a": {"k": 1}, "b": {"x": 2}}));
    engine.state().restore(&kept);
    assert_eq!(engine.state().get_text("a", "k").as_deref(), Some(text));
    assert_eq!(engine.events().all()[0].new_text(), Some(text));
    assert_eq!(engine.state().scopes(), ["a"]);
}

#[test]
fn missing_and_null_are_two_things() {
    let engine = Engine::start();
    engine.state().set("a", "null", Value::Null);
    assert_eq!(engine.state().get("a", "null"), Some(Value::Null));
    assert_eq!(engine.state().get("a", "none"), None);
    let created = engine.events().expect(event());
    assert_eq!(
        (created.old_value(), created.new_value()),
        (None, Some(Value::Null))
    );
    engine.state().delete("a", "null");
    assert_eq!(
        engine.events().expect(event().after(&created)).kind,
        "state:deleted"
    );
}

#[test]
fn an_event_is_found_by_any_condition_and_waited_for() {
    let engine = Engine::start();
    thread::scope(|scope| {
        let later = scope.spawn(|| {
            engine
                .events()
                .expect(event().matching(|one| one.new_text() == Some("3")))
        });
        for value in [1, 2, 3] {
            engine.state().set("a", "k", json!(value));
        }
        assert_eq!(later.join().unwrap().old_value(), Some(json!(2)));
    });
    assert_eq!(engine.events().of(event().value(json!(2)).scope("a")).len(), 1);
}

#[test]
fn what_does_not_come_says_what_did() {
    let said = failure(|| {
        let engine = Engine::start();
        engine.state().set("shop", "chair", json!(3));
        engine.events().expect(
            event()
                .scope("shop")
                .key("table")
                .within(Duration::from_millis(10)),
        );
    });
    assert!(said.contains("shop / chair  null -> 3"), "{said}");
    let said = failure(|| {
        Engine::start()
            .calls()
            .expect(called("mail::send").within(Duration::ZERO));
    });
    assert!(said.starts_with("0 of 1 answered"), "{said}");
    let said = failure(|| {
        Engine::start().http().get("/nowhere").expect_status(200);
    });
    assert!(
        said.starts_with("GET /nowhere answered 404, expected 200"),
        "{said}"
    );
    let said = failure(|| {
        let engine = Engine::start();
        engine.faults().add("nonsense", json!({})).now();
    });
    assert!(said.contains("There is no verb 'faults/nonsense'"), "{said}");
}

#[test]
fn faults_strike_as_often_as_they_say() {
    let engine = Engine::start();
    let get = || {
        let done = engine.call::<Value>("state::get", json!({"scope": "a", "key": "k"}));
        done.map_or_else(|error| error.code, |_| "fine".into())
    };
    let fault = engine
        .faults()
        .fail("state::*")
        .code("busy")
        .message("later")
        .times(2)
        .begin();
    assert_eq!([get(), get(), get()], ["busy", "busy", "fine"]);
    assert_eq!(fault.hits(), 2);
    let other = engine.faults().fail("state::get").times(100).begin();
    other.stop();
    assert_eq!(get(), "fine");
    engine
        .faults()
        .fail("state::get")
        .probability(1.0)
        .seed(7)
        .begin();
    assert_eq!(get(), "internal_error");
    engine.faults().clear();
    assert_eq!(get(), "fine");
    engine.faults().disk_full("state::set").begin();
    assert!(
        engine
            .call::<Value>("state::set", json!({"scope": "a", "key": "k", "value": 1}))
            .is_err()
    );
    engine
        .faults()
        .slow_store("state::set", Duration::from_millis(50))
        .begin();
    engine
        .call::<Value>("state::set", json!({"scope": "a", "key": "k", "value": 2}))
        .unwrap();
    assert!(
        engine
            .calls()
            .expect(called("state::set").count(2))
            .seconds
            .unwrap()
            >= 0.05
    );
}

#[test]
fn the_clock_moves_on_demand() {
    let engine = Engine::start();
    let before = engine.clock().now();
    engine.clock().advance(Duration::from_secs(86_400));
    assert!(engine.clock().now().duration_since(before).unwrap() >= Duration::from_secs(86_400));
}

#[test]
fn the_transcript_has_a_line_for_all_that_happened() {
    let engine = Engine::start();
    engine.state().set("a", "k", json!(1));
    let line: Value = serde_json::from_str(engine.transcript().trim()).unwrap();
    assert_eq!((&line["what"], &line["new_value"]), (&json!("event"), &json!(1)));
    assert!(engine.report().contains("state:created  a / k  null -> 1"));
}

#[test]
fn a_worker_that_ends_says_what_it_wrote() {
    let said = failure(|| {
        let mut broken = Command::new("sh");
        broken.args(["-c", "echo about to fail; exit 3"]);
        Engine::start().worker(broken);
    });
    assert!(
        said.contains("ended (exit status: 3).\n--- its output ---\nabout to fail"),
        "{said}"
    );
    let said = failure(|| {
        Engine::start().worker("/no/such/program");
    });
    assert!(said.starts_with("/no/such/program cannot be started"), "{said}");
    let said = failure(|| {
        Engine::start().worker("nosuch.py");
    });
    assert!(said.starts_with("There is no worker nosuch.py in /"), "{said}");
    let mut within = Duration::from_millis(500);
    loop {
        let said = failure(move || {
            let mut silent = Command::new("sh");
            silent.args(["-c", "echo I wait; sleep 60"]);
            Engine::start().worker_when(
                silent,
                Ready {
                    within,
                    ..Ready::default()
                },
            );
        });
        let wanted = format!("did not register any function within {} s", within.as_secs_f64());
        assert!(said.contains(&wanted), "{said}");
        if said.ends_with("I wait") {
            break; // it has had the time to write
        }
        within *= 2;
    }
}

#[test]
fn a_killed_worker_is_gone_and_what_it_started_with_it() {
    let engine = Engine::start();
    let mut two = Command::new("sh");
    two.args(["-c", "\"$0\" & echo \"child $!\"; wait", SHOP]);
    let worker = engine.worker(two);
    let output = worker.output();
    let child = output
        .split("child ")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .to_owned();
    worker.kill();
    let running = || {
        let stat = std::fs::read_to_string(Path::new("/proc").join(&child).join("stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while running() {
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn engines_know_nothing_of_each_other() {
    let engines: Vec<_> = (0..20).map(|_| Engine::start()).collect();
    for (at, engine) in engines.iter().enumerate() {
        engine.state().set("a", "k", json!(at));
    }
    for (at, engine) in engines.iter().enumerate() {
        assert_eq!(engine.state().get("a", "k"), Some(json!(at)));
    }
}

#[test]
fn a_store_on_files_survives_a_restart() {
    let engine = Engine::with(Options {
        adapter: Some("file".into()),
        ..Options::default()
    });
    engine.state().set("a", "k", json!(1));
    engine.faults().restart();
    assert_eq!(engine.state().get("a", "k"), Some(json!(1)));
    let said = failure(|| {
        drop(Engine::with(Options {
            adapter: Some("nosuch".into()),
            ..Options::default()
        }))
    });
    assert!(said.contains("nosuch"), "{said}");
}

#[test]
#[ignore = "kills the host of all engines of this program"]
fn lost() {
    let engine = Engine::start();
    let children = std::fs::read_dir("/proc/self/task")
        .unwrap()
        .map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default());
    let host = children.collect::<String>().trim().to_owned();
    assert!(
        Command::new("kill")
            .args(["-9", &host])
            .status()
            .unwrap()
            .success()
    );
    let said = failure(move || {
        engine.settle();
    });
    assert!(
        said.starts_with("ENGINE_LOST: the host of the engines does not answer"),
        "{said}"
    );
    assert_eq!(Engine::start().state().scopes(), [""; 0]);
}

#[test]
#[ignore = "fails, to show what a failure shows"]
fn wrong() {
    let engine = Engine::start();
    engine.worker(SHOP);
    engine.state().set("shop", "chair", json!(1));
    engine.events().expect(
        event()
            .scope("shop")
            .key("table")
            .within(Duration::from_millis(10)),
    );
}

#[test]
#[ignore = "never ends: it is killed"]
fn killed() {
    let engine = Engine::start();
    let worker = engine.worker(SHOP);
    println!("{}", worker.pid);
    thread::sleep(Duration::from_secs(600));
}
