//! Streams: the state first, then each change; the latest wins, and a clean stop tells all there was.

use llamactl_tests::{Home, Stream, TestModel};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a follower of models knows: names by id.
#[derive(Debug, Default, PartialEq)]
struct Known(BTreeMap<i64, String>);

impl Known {
    fn learn(&mut self, data: &Value) {
        for model in data["models"].as_array().unwrap() {
            let (id, name) = (model["id"].as_i64().unwrap(), model["name"].as_str().unwrap());
            self.0.insert(id, name.to_owned());
        }
        for id in data["removed"].as_array().into_iter().flatten() {
            assert!(self.0.remove(&id.as_i64().unwrap()).is_some(), "{data}");
        }
    }

    /// Learns what comes until a name is known, or is not; the last cursor.
    fn until(&mut self, stream: &mut Stream, name: &str, is_known: bool) -> Value {
        loop {
            let item = stream.item();
            assert_eq!(item["kind"], "change", "{item}");
            self.learn(&item["data"]);
            if self.0.values().any(|it| it == name) == is_known {
                return item["cursor"].clone();
            }
        }
    }

    fn all(stream: &mut Stream) -> (Known, Value) {
        let mut known = Known::default();
        loop {
            let item = stream.item();
            assert_eq!(item["kind"], "snapshot", "{item}");
            known.learn(&item["data"]);
            if item["data"]["more"] == false {
                return (known, item["cursor"].clone());
            }
            assert_eq!(item["cursor"], Value::Null, "half of it is no place to go on from");
        }
    }
}

fn names(home: &Home) -> Known {
    let mut known = Known::default();
    let mut after = Value::Null;
    loop {
        let page = home.call("model.list", json!({ "after": after, "limit": 200 }));
        known.learn(&json!({ "models": page["items"] }));
        after = page["next"].clone();
        if after.is_null() {
            return known;
        }
    }
}

#[test]
fn models_are_followed_from_all_there_are_through_each_change_and_a_restart() {
    let home = Home::new();
    let mut daemon = home.daemon();
    let mut empty = home.follow("model.follow", json!({}));
    assert_eq!(Known::all(&mut empty).0, Known::default(), "that there are none is told too");

    home.call("model.add", json!({ "path": home.model(TestModel::Tiny), "name": "m" }));
    for number in 0..120 {
        home.call("model.copy", json!({ "model": "m", "to": format!("m{number}") }));
    }
    let mut stream = home.follow("model.follow", json!({}));
    let (mut known, _) = Known::all(&mut stream);
    assert_eq!(known, names(&home));
    home.call("model.rename", json!({ "model": "m1", "to": "other" }));
    known.until(&mut stream, "other", true);
    home.call("model.remove", json!({ "model": "m2" }));
    let cursor = known.until(&mut stream, "m2", false);
    home.call("model.set", json!({ "model": "m3", "set": { "ctx-size": 512 } }));
    let changed = stream.item();
    assert_eq!(changed["data"]["models"][0]["settings"]["ctx-size"], 512, "{changed}");

    // Who went on reading has the same as who comes back.
    daemon.kill();
    daemon.start_again();
    home.call("model.remove", json!({ "model": "m4" }));
    let mut resumed = home.follow("model.follow", json!({ "after": cursor }));
    known.until(&mut resumed, "m4", false);
    assert_eq!(known, names(&home));

    let mut foreign = home.follow("model.follow", json!({ "after": "123456789" }));
    assert_eq!(foreign.item()["kind"], "missed");
    assert_eq!(Known::all(&mut foreign).0, names(&home));
}

#[test]
fn a_clean_stop_tells_what_there_was_on_every_stream_and_ends_it() {
    let home = Home::with_fake_llama_server();
    let mut daemon = home.daemon();
    home.fake_model("m", &json!({ "stderr": ["the first line"] }));
    home.cli(["start", "m"]).ok();
    let open = |method: &str, params: Value| (method.to_owned(), home.follow(method, params));
    let streams = [
        open("model.follow", json!({})),
        open("server.follow", json!({})),
        open("server.follow", json!({ "model": "m" })),
        open("metrics.follow", json!({})),
        open("metrics.follow", json!({ "replay_ms": 5000 })),
        open("log.follow", json!({ "model": "m" })),
        open("event.follow", json!({})),
    ];
    home.call("model.set", json!({ "model": "m", "set": { "ctx-size": 512 } }));
    assert!(daemon.terminate().success());
    let mut told = BTreeMap::new();
    for (method, mut stream) in streams {
        let items = stream.to_end();
        let end = items.last().unwrap();
        assert_eq!(end["data"]["reason"], "daemon_stopping", "{method}: {end}");
        *told.entry(method).or_insert_with(String::new) += &json!(items).to_string();
    }
    assert!(told["model.follow"].contains("\"ctx-size\":512"), "{told:?}");
    assert!(told["server.follow"].contains("\"state\":\"stopped\""), "{told:?}");
    assert!(told["log.follow"].contains("the first line"), "{told:?}");
    assert!(told["event.follow"].contains("\"server.stopped\""), "{told:?}");
}
