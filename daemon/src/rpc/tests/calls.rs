//! Calls: what is asked, in which order, and what comes back.

use super::kit::{Kit, kind, request, within_patience};
use llamactl_protocol::Access;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

#[tokio::test]
async fn every_kind_of_junk_has_its_answer_and_the_connection_lives() {
    let kit = Kit::new();
    let mut client = kit.connect();
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let long_batch = format!("[{}]", vec![request(1, "word.list", json!({})); 65].join(","));
    let corpus: &[(&[u8], Value, &str)] = &[
        (b"junk", Value::Null, "parse_error"),
        (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xc3\x28\"}", Value::Null, "parse_error"),
        (b"{\"a\":\0}", Value::Null, "parse_error"),
        (b"[]", Value::Null, "invalid_request"),
        (b"{\"foo\":1}", Value::Null, "invalid_request"),
        (b"{\"jsonrpc\":\"2.0\",\"id\":\"x\"}", json!("x"), "invalid_request"),
        (deep.as_bytes(), Value::Null, "too_deep"),
        (long_batch.as_bytes(), Value::Null, "batch_too_long"),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"word.lits\"}",
            json!(5),
            "unknown_method",
        ),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"word.add\",\"params\":[\"a\"]}",
            json!(6),
            "invalid_params",
        ),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"word.add\"}",
            json!(7),
            "invalid_params",
        ),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"fail.now\"}",
            json!(8),
            "model_not_found",
        ),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"big.text\",\"params\":{\"bytes\":1048576}}",
            json!(9),
            "answer_too_large",
        ),
    ];
    for (line, id, expected) in corpus {
        client.send(line).await;
        let answer = client.next().await;
        let shown = String::from_utf8_lossy(line);
        assert_eq!((kind(&answer).as_str(), &answer["id"]), (*expected, id), "{shown}");
    }
    client.send("\n  \n\r").await;
    assert_eq!(client.call(10, "word.list", json!({})).await["result"], json!([]));
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let kit = Kit::new();
    let mut client = kit.connect();
    let answer = client.call(1, "word.lits", json!({})).await;
    let hint = answer["error"]["data"]["hint"].as_str().unwrap();
    assert!(hint.starts_with("did you mean word.list?"), "{hint}");
    let answer = client.call(2, "word.add", json!({"word": "a", "wrod": 1})).await;
    assert_eq!(answer["error"]["message"], "word.add: unknown parameter `wrod`, expected `word`");
    let hint = answer["error"]["data"]["hint"].as_str().unwrap();
    assert!(hint.contains(env!("CARGO_PKG_VERSION")), "{hint}");
    let answer = client.call(3, "word.add", json!({})).await;
    assert_eq!(answer["error"]["message"], "word.add: missing parameter `word`");
    let answer = client.call(4, "fail.now", json!({})).await;
    assert_eq!(answer["error"]["message"], "no model for uid 1000 (fail.now)");
    assert_eq!(answer["error"]["data"]["details"], json!({"near": ["a"]}));
    assert!(kit.world.words().is_empty());
}

#[tokio::test]
async fn access_is_checked_before_the_handler_and_the_parameters() {
    let kit = Kit::new();
    let words = [(Access::Observe, "not_allowed"), (Access::Operate, "result")];
    for (access, expected) in words {
        let mut client = kit.connect_as(access);
        let answer = client.call(1, "word.add", json!({"word": "a"})).await;
        let got = if answer["result"].is_u64() { "result".into() } else { kind(&answer) };
        assert_eq!(got, expected, "{access:?}");
        assert_eq!(kind(&client.call(2, "secret.tell", json!({"x": 1})).await), "not_allowed");
        assert!(client.call(3, "word.list", json!({})).await["result"].is_array());
    }
    assert_eq!(kit.world.words(), ["a"]);
    let answer = kit.connect().call(1, "secret.tell", json!({})).await;
    assert_eq!(answer["result"], true);
}

#[tokio::test]
async fn changes_keep_their_order_and_looks_see_the_changes_before_them() {
    let kit = Kit::new();
    let mut client = kit.connect();
    client.ask(1, "word.add", json!({"word": "slow"})).await;
    client.ask(2, "word.add", json!({"word": "quick"})).await;
    client.ask(3, "word.list", json!({})).await;
    within_patience(kit.world.at_gate.notified()).await;
    // Another connection is not held up, and sees what is there.
    let mut other = kit.connect();
    assert_eq!(other.call(1, "word.list", json!({})).await["result"], json!([]));
    kit.world.gate.add_permits(1);
    for (id, result) in [(1, json!(1)), (2, json!(2)), (3, json!(["slow", "quick"]))] {
        let answer = client.next().await;
        assert_eq!((&answer["id"], &answer["result"]), (&json!(id), &result));
    }
}

#[tokio::test]
async fn looks_run_beside_each_other() {
    let kit = Kit::new();
    let mut client = kit.connect();
    client.ask(1, "wait.here", json!({})).await;
    assert_eq!(client.call(2, "word.list", json!({})).await["id"], 2);
    // A change does not wait for the looks before it either.
    assert_eq!(client.call(3, "word.add", json!({"word": "a"})).await["id"], 3);
    kit.world.gate.add_permits(1);
    assert_eq!(client.next().await["id"], 1);
}

#[tokio::test]
async fn batches_are_carried_out_in_order_and_notifications_in_silence() {
    let kit = Kit::new();
    let mut client = kit.connect();
    let notification = json!({"jsonrpc": "2.0", "method": "word.add", "params": {"word": "b"}});
    let add = request(1, "word.add", json!({"word": "a"}));
    let list = request(2, "word.list", json!({}));
    client.send(format!("[{add},{notification},7,{list}]")).await;
    let answers = client.next().await;
    assert_eq!(answers.as_array().unwrap().len(), 3, "{answers}");
    assert_eq!((&answers[0]["id"], &answers[0]["result"]), (&json!(1), &json!(1)));
    assert_eq!(kind(&answers[1]), "invalid_request");
    assert_eq!(answers[2]["result"], json!(["a", "b"]));

    client.send(format!("[{notification}]")).await;
    client.send(notification.to_string()).await;
    let answer = client.call(3, "word.list", json!({})).await;
    assert_eq!(answer["result"], json!(["a", "b", "b", "b"]));
}

#[tokio::test]
async fn a_batch_too_long_to_answer_still_answers_every_id() {
    let kit = Kit::new();
    let mut client = kit.connect();
    let calls: Vec<_> =
        (0..10).map(|id| request(id, "big.text", json!({"bytes": 200_000}))).collect();
    client.send(format!("[{}]", calls.join(","))).await;
    let answers = client.next().await;
    assert!(answers.to_string().len() <= kit.limits.message_bytes);
    let answers = answers.as_array().unwrap();
    let sent = answers.iter().filter(|answer| answer["result"].is_string()).count();
    assert_eq!((answers.len(), sent), (10, 5));
    for (id, answer) in answers.iter().enumerate() {
        assert_eq!(answer["id"], id);
        assert!(answer["result"].is_string() || kind(answer) == "answer_too_large");
    }
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    let kit = Kit::new();
    let mut client = kit.connect();
    assert_eq!(kind(&client.call(1, "boom.now", json!({})).await), "internal");
    assert_eq!(kit.counters.panics_total(), 1);
    assert!(client.call(2, "word.list", json!({})).await["result"].is_array());
}

#[tokio::test]
async fn a_half_closed_peer_gets_its_answers_then_the_end() {
    let kit = Kit::new();
    let mut client = kit.connect();
    client.ask(1, "wait.here", json!({})).await;
    // The last line has no line end, as from `printf`.
    client.write.write_all(request(2, "word.list", json!({})).as_bytes()).await.unwrap();
    client.write.shutdown().await.unwrap();
    assert_eq!(client.next().await["id"], 2);
    kit.world.gate.add_permits(1);
    assert_eq!(client.next().await["id"], 1);
    assert_eq!(client.line().await, None);
    kit.all_closed().await;
}

#[tokio::test]
async fn a_change_is_finished_for_a_peer_that_left_and_a_look_is_dropped() {
    let kit = Kit::new();
    let mut client = kit.connect();
    client.ask(1, "word.add", json!({"word": "slow"})).await;
    within_patience(kit.world.at_gate.notified()).await;
    client.ask(2, "word.add", json!({"word": "after"})).await;
    drop(client);
    let mut looking = kit.connect();
    looking.ask(1, "wait.here", json!({})).await;
    within_patience(kit.world.at_gate.notified()).await;
    drop(looking);
    kit.connections.close();
    // The look is dropped without passing the gate.
    within_patience(async {
        while kit.connections.len() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    kit.world.gate.add_permits(1);
    kit.all_closed().await;
    assert_eq!(kit.world.words(), ["slow", "after"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_bytes_end_a_connection(
        lines in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..120),
                "[\\[\\]{}\",:0-9a-z .-]{0,60}".prop_map(String::into_bytes),
                (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, with)| {
                    let mut line = request(9, "word.add", json!({"word": "é\n"})).into_bytes();
                    let at = at.index(line.len());
                    line[at] = with;
                    line
                }),
            ],
            0..20,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let kit = Kit::new();
            let mut client = kit.connect();
            for line in &lines {
                client.send(line).await;
            }
            client.ask(424_242, "word.list", json!({})).await;
            while client.next().await["id"] != 424_242 {}
        });
    }
}
