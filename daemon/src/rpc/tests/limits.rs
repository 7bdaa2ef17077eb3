//! What a hostile or broken peer gets: an answer of its own, and nothing of anybody else's.

use super::super::Limits;
use super::kit::{Client, Kit, PATIENCE, kind, request, within_patience};
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test]
async fn a_line_too_long_is_answered_and_its_connection_closed() {
    let kit = Kit::new();
    let mut client = kit.connect();
    // Everything is written before anything is read, as simple clients do.
    client.send("x".repeat(3 << 20)).await;
    client.ask(1, "word.list", json!({})).await;
    assert_eq!(client.failure().await, "message_too_large");
    assert_eq!(client.line().await, None);
    drop(client);
    kit.all_closed().await;
    assert_eq!(kit.world.calls.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_is_taken() {
    let kit = Kit::new();
    let mut client = kit.connect();
    let mut line = request(1, "word.list", json!({}));
    line.extend(std::iter::repeat_n(' ', kit.limits.message_bytes - line.len()));
    client.send(&line).await;
    assert!(client.next().await["result"].is_array());
    line.push(' ');
    client.send(&line).await;
    assert_eq!(client.failure().await, "message_too_large");
}

#[tokio::test(start_paused = true)]
async fn a_slow_line_is_given_up() {
    let kit = Kit::new();
    let mut client = kit.connect();
    assert!(client.call(1, "word.list", json!({})).await["result"].is_array());
    let started = Instant::now();
    client.write.write_all(b"{").await.unwrap();
    let Client { mut read, mut write } = client;
    let dripping = tokio::spawn(async move {
        while write.write_all(b" ").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    });
    let line = read.next_line().await.unwrap().unwrap();
    assert_eq!(kind(&serde_json::from_str(&line).unwrap()), "message_timeout");
    assert_eq!(started.elapsed().as_secs(), kit.limits.message_deadline.as_secs());
    drop(read);
    dripping.await.unwrap();
    kit.all_closed().await;
}

#[tokio::test(start_paused = true)]
async fn silence_closes_a_connection_unless_something_runs() {
    let kit = Kit::new();
    let idle = kit.limits.idle_deadline;

    let started = Instant::now();
    let mut silent = kit.connect();
    assert_eq!(kind(&silent.next_without_patience().await), "idle_timeout");
    assert_eq!(started.elapsed().as_secs(), kit.limits.first_byte_deadline.as_secs());

    let mut client = kit.connect();
    client.call(1, "word.list", json!({})).await;
    sleep(idle - Duration::from_secs(1)).await;
    client.call(2, "word.list", json!({})).await;
    let asked = Instant::now();
    assert_eq!(kind(&client.next_without_patience().await), "idle_timeout");
    assert_eq!(asked.elapsed().as_secs(), idle.as_secs());

    let mut follower = kit.connect();
    follower.call(1, "quiet.follow", json!({})).await;
    let mut waiting = kit.connect();
    waiting.ask(1, "wait.here", json!({})).await;
    sleep(idle * 10).await;
    assert!(follower.call(2, "word.list", json!({})).await["result"].is_array());
    kit.world.gate.add_permits(1);
    assert_eq!(waiting.next().await["result"], true);
    let answered = Instant::now();
    assert_eq!(kind(&waiting.next_without_patience().await), "idle_timeout");
    assert!(answered.elapsed() <= idle * 2);
}

#[tokio::test]
async fn a_peer_that_never_reads_is_stopped_and_others_are_served() {
    let kit = Kit::new();
    let mut greedy = kit.connect();
    let call = request(1, "big.text", json!({"bytes": 1000}));
    let mut sent = 0u64;
    // Writes until the daemon has stopped reading and the kernel takes no more.
    while sent < 100_000 && timeout(Duration::from_millis(100), greedy.send(&call)).await.is_ok() {
        sent += 1;
    }
    let answered = kit.world.calls.load(Ordering::Relaxed);
    assert!(sent < 100_000 && answered < sent, "{answered} of {sent}");
    let buffered_bytes = (answered - kit.limits.calls_in_flight as u64) * 1000;
    // What was answered lies in the socket's buffer and in the queue; nothing is unbounded.
    assert!(buffered_bytes < 2 << 20, "{answered} answers");
    assert_eq!(kit.connect().call(1, "word.list", json!({})).await["result"], json!([]));

    // Once it reads, every call gets its answer.
    let mut answers = 0;
    while answers < sent {
        greedy.next().await;
        answers += 1;
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_reads_its_answers_is_given_up() {
    let kit = Kit::new();
    let mut client = kit.connect();
    let started = Instant::now();
    client.ask(1, "big.text", json!({"bytes": 900_000})).await;
    // The clock only moves when the whole world waits, so here it waits for the stall deadline.
    kit.connections.close();
    kit.connections.wait().await;
    assert_eq!(started.elapsed().as_secs(), kit.limits.stall_deadline.as_secs());
}

#[tokio::test]
async fn streams_are_counted_per_connection() {
    let kit = Kit::within(Limits { subscriptions: 2, ..Limits::default() });
    let mut client = kit.connect();
    let first = client.call(1, "quiet.follow", json!({})).await["result"].clone();
    client.call(2, "quiet.follow", json!({})).await;
    assert_eq!(kind(&client.call(3, "quiet.follow", json!({})).await), "too_many_subscriptions");
    assert!(kit.connect().call(1, "quiet.follow", json!({})).await["result"].is_u64());
    let closed = client.call(4, "quiet.unfollow", json!({"subscription": first})).await;
    assert_eq!(closed["result"], true);
    assert!(client.call(5, "quiet.follow", json!({})).await["result"].is_u64());
}

#[tokio::test]
async fn calls_in_flight_bound_what_runs_at_once() {
    let kit = Kit::within(Limits { calls_in_flight: 2, ..Limits::default() });
    let mut client = kit.connect();
    for id in 1..=2 {
        client.ask(id, "wait.here", json!({})).await;
        within_patience(kit.world.at_gate.notified()).await;
    }
    client.ask(3, "word.list", json!({})).await;
    // The third is not even read: a call of another connection overtakes it.
    kit.connect().call(1, "word.list", json!({})).await;
    assert_eq!(kit.world.calls.load(Ordering::Relaxed), 1);
    kit.world.gate.add_permits(2);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(client.next().await["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
}

#[tokio::test]
async fn a_peer_that_hangs_up_with_all_its_calls_running_is_noticed() {
    let kit = Kit::within(Limits { calls_in_flight: 1, ..Limits::default() });
    let mut client = kit.connect();
    client.ask(1, "wait.here", json!({})).await;
    within_patience(kit.world.at_gate.notified()).await;
    drop(client);
    kit.all_closed().await;
}

/// A line of almost the length that is allowed.
fn long_line(id: u64) -> String {
    let mut line = request(id, "word.list", json!({}));
    line.extend(std::iter::repeat_n(' ', (1 << 20) - line.len() - 1));
    line.push('\n');
    line
}

#[tokio::test]
async fn more_long_lines_than_there_is_room_for_come_in_one_after_the_other() {
    let kit = Kit::within(Limits { message_deadline: 60 * PATIENCE, ..Limits::default() });
    let asked = (0..60).map(|id| {
        let mut client = kit.connect();
        async move {
            client.write.write_all(long_line(id).as_bytes()).await.unwrap();
            client.next().await["id"].as_u64()
        }
    });
    let answered = within_patience(futures_util::future::join_all(asked)).await;
    assert_eq!(answered, (0..60).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_peer_that_hangs_up_while_its_line_waits_for_room_is_noticed() {
    let kit = Kit::within(Limits { message_deadline: 60 * PATIENCE, ..Limits::default() });
    // Two lines that never end have the room for long ones.
    let line = long_line(1);
    let begun = &line.as_bytes()[..line.len() - 1];
    let mut holding = [kit.connect(), kit.connect()];
    for client in &mut holding {
        client.write.write_all(begun).await.unwrap();
    }
    let mut waiting = kit.connect();
    let _ = timeout(Duration::from_millis(50), waiting.write.write_all(begun)).await;
    drop(waiting);
    let is_noticed = async {
        while kit.connections.len() > 2 {
            tokio::task::yield_now().await;
        }
    };
    within_patience(is_noticed).await;
    drop(holding);
    kit.all_closed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_calls_with_long_answers_one_is_on_a_thread_at_a_time() {
    let kit = Kit::new();
    let asked = (0..16).map(|_| {
        let mut client = kit.connect();
        tokio::spawn(async move {
            let mut most = 0;
            for id in 0..20 {
                let at_once = client.call(id, "busy.now", json!({})).await;
                most = most.max(at_once["result"].as_u64().unwrap());
            }
            most
        })
    });
    let most = within_patience(futures_util::future::join_all(asked)).await;
    assert!(most.into_iter().all(|most| most.unwrap() == 1));
}
