use super::*;
use crate::logs::file::{RunLog, Stream, Trim, trim};
use crate::logs::split::RawLine;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

/// A log, the hand that writes it, and the switch that ends its run.
struct Log {
    directory: tempfile::TempDir,
    path: PathBuf,
    file: File,
    finish: watch::Sender<bool>,
}

impl Log {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = RunLog::new(directory.path(), "r").unwrap();
        let file = log.create(Stream::Stderr).unwrap();
        let path = log.path(Stream::Stderr);
        Self { directory, path, file, finish: watch::Sender::new(false) }
    }

    fn with(content: &[u8]) -> Self {
        let mut log = Self::new();
        log.write(content);
        log
    }

    fn write(&mut self, bytes: &[u8]) {
        self.file.write_all(bytes).unwrap();
    }

    async fn tail(&self, start: Start) -> Tail {
        let finished = self.finish.subscribe();
        tail_of(&self.path, start, finished, &Watcher::start()).await
    }

    fn free_head(&self, keep_bytes: u64) -> u64 {
        let Trim::Freed { floor_offset, .. } = freed(&self.path, keep_bytes) else {
            panic!("nothing was freed")
        };
        floor_offset
    }
}

async fn tail_of(
    path: &std::path::Path,
    start: Start,
    finished: watch::Receiver<bool>,
    watcher: &Watcher,
) -> Tail {
    Tail::of(Arc::new(File::open(path).unwrap()), start, finished, watcher).await.unwrap()
}

fn freed(path: &std::path::Path, keep_bytes: u64) -> Trim {
    trim(&File::options().read(true).write(true).open(path).unwrap(), keep_bytes).unwrap()
}

async fn lines(tail: &mut Tail) -> Vec<String> {
    match tail.next().await.unwrap() {
        Some(Chunk::Lines(lines)) => {
            lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
        }
        other => panic!("no lines but {other:?}"),
    }
}

#[tokio::test]
async fn lines_come_as_they_are_written_and_the_last_one_at_the_end() {
    let mut log = Log::with(b"one\ntwo\npart");
    let mut tail = log.tail(Start::Floor).await;
    assert_eq!(lines(&mut tail).await, ["one", "two"]);
    assert_eq!(tail.offset(), 8);
    log.write(b"ial\nthr");
    assert_eq!(lines(&mut tail).await, ["partial"]);
    log.write(b"ee");
    log.finish.send_replace(true);
    assert_eq!(lines(&mut tail).await, ["three"]);
    assert_eq!(tail.next().await.unwrap(), None);
    assert_eq!(tail.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_partial_line_is_not_given() {
    let mut log = Log::with(b"partial");
    let mut tail = log.tail(Start::Floor).await;
    {
        let mut next = std::pin::pin!(tail.next());
        // Several looks at the file, none of which gives anything.
        for _ in 0..5 {
            log.file.set_len(7).unwrap();
            tokio::select! {
                biased;
                given = &mut next => panic!("{given:?}"),
                () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
            }
        }
    }
    log.write(b" no more\n");
    assert_eq!(lines(&mut tail).await, ["partial no more"]);
}

#[tokio::test]
async fn polling_gives_the_same() {
    let mut log = Log::with(b"one\n");
    let finished = log.finish.subscribe();
    let watcher = Watcher::polling();
    let mut tail = tail_of(&log.path, Start::End, finished, &watcher).await;
    log.write(b"two\n");
    assert_eq!(lines(&mut tail).await, ["two"]);
    let next = tokio::spawn(async move { tail.next().await });
    tokio::task::yield_now().await;
    log.write(b"three\n");
    assert!(matches!(next.await.unwrap(), Ok(Some(Chunk::Lines(lines))) if lines.len() == 1));
}

#[tokio::test]
async fn each_start_begins_where_it_says() {
    let log = Log::with(b"one\ntwo\nthree\nfo");
    log.finish.send_replace(true);
    for (start, expected) in [
        (Start::Floor, vec!["one", "two", "three"]),
        (Start::Offset(4), vec!["two", "three"]),
        (Start::LineAt(6), vec!["two", "three"]),
        (Start::LineAt(4), vec!["two", "three"]),
        (Start::LastLines(2), vec!["three"]),
        (Start::LastLines(99), vec!["one", "two", "three"]),
        (Start::LastLines(0), vec!["fo"]),
        (Start::End, vec!["fo"]),
    ] {
        assert_eq!(lines(&mut log.tail(start).await).await, expected, "{start:?}");
    }
}

#[tokio::test]
async fn a_cursor_inside_a_long_line_goes_on_there() {
    let mut log = Log::with(&vec![b'x'; LINE_MAX_BYTES + 10]);
    log.write(b"\nnext\n");
    let mut tail = log.tail(Start::Offset(LINE_MAX_BYTES as u64)).await;
    let Some(Chunk::Lines(seen)) = tail.next().await.unwrap() else { panic!("no lines") };
    let seen: Vec<_> = seen.iter().map(|line| (line.bytes.len(), line.cut)).collect();
    assert_eq!(seen, [(10, true), (4, false)]);
}

#[tokio::test]
async fn a_run_that_nobody_owns_any_more_has_ended() {
    let Log { directory, path, file: _, finish } = Log::with(b"one\nrest");
    let mut tail = tail_of(&path, Start::Floor, finish.subscribe(), &Watcher::start()).await;
    drop(finish);
    assert_eq!(lines(&mut tail).await, ["one"]);
    assert_eq!(lines(&mut tail).await, ["rest"]);
    assert_eq!(tail.next().await.unwrap(), None);
    drop(directory);
}

#[tokio::test]
async fn bytes_that_are_no_text_and_a_long_line_come_as_they_are() {
    let megabyte: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8 | 0x80).collect();
    let mut content = b"\xff\0\xfe\n".to_vec();
    content.extend(&megabyte);
    content.extend(b"\nafter\n");
    let log = Log::with(&content);
    log.finish.send_replace(true);
    let mut tail = log.tail(Start::Floor).await;
    let mut seen = Vec::new();
    while let Some(chunk) = tail.next().await.unwrap() {
        let Chunk::Lines(lines) = chunk else { panic!("missed") };
        seen.extend(lines.iter().cloned());
    }
    let (first, last) = (seen.remove(0), seen.pop().unwrap());
    assert_eq!((first.bytes.as_slice(), first.cut), (b"\xff\0\xfe".as_slice(), false));
    assert_eq!((last.bytes.as_slice(), last.cut), (b"after".as_slice(), false));
    assert!(seen.iter().all(|line| line.cut && line.bytes.len() <= LINE_MAX_BYTES));
    assert_eq!(seen.concat_bytes(), megabyte);
}

trait ConcatBytes {
    fn concat_bytes(&self) -> Vec<u8>;
}
impl ConcatBytes for [RawLine] {
    fn concat_bytes(&self) -> Vec<u8> {
        self.iter().flat_map(|line| line.bytes.clone()).collect()
    }
}

#[tokio::test]
async fn chunks_are_bounded() {
    let log = Log::with(&vec![b'\n'; 100_000]);
    log.finish.send_replace(true);
    let mut tail = log.tail(Start::Floor).await;
    let mut count = 0;
    while let Some(Chunk::Lines(lines)) = tail.next().await.unwrap() {
        assert!(lines.len() <= CHUNK_MAX_LINES);
        count += lines.len();
    }
    assert_eq!(count, 100_000);
}

#[tokio::test]
async fn a_reader_below_the_floor_is_told_how_much_it_missed() {
    let content: String = (0..10_000).map(|n| format!("{n:099}\n")).collect();
    let log = Log::with(content.as_bytes());
    let mut before = log.tail(Start::Floor).await;
    let first = lines(&mut before).await.len();
    let floor = log.free_head(100_000);
    log.finish.send_replace(true);

    let mut late = log.tail(Start::Offset(500)).await;
    assert_eq!(late.next().await.unwrap(), Some(Chunk::Missed { bytes: Some(floor - 500) }));
    assert_eq!(lines(&mut late).await[0], format!("{:099}", floor / 100));

    // What a reader had read already it gives; the rest it reports.
    let mut seen = first as u64 * 100;
    let missed = loop {
        match before.next().await.unwrap().unwrap() {
            Chunk::Lines(lines) => seen += lines.len() as u64 * 100,
            Chunk::Missed { bytes } => break bytes.unwrap(),
            Chunk::Deleted => panic!("nobody deleted it"),
        }
    };
    assert_eq!(seen + missed, floor);
    assert_eq!(before.offset(), floor);

    let at_floor = lines(&mut log.tail(Start::Floor).await).await;
    assert_eq!(at_floor[0], format!("{:099}", floor / 100));
    let at_time = lines(&mut log.tail(Start::LineAt(500)).await).await;
    assert_eq!(at_time[0], at_floor[0]);
}

#[tokio::test]
async fn an_emptied_log_is_read_from_its_new_start() {
    let mut log = Log::with(b"one\ntwo\n");
    let mut tail = log.tail(Start::Floor).await;
    assert_eq!(lines(&mut tail).await.len(), 2);
    log.file.set_len(0).unwrap();
    assert_eq!(tail.next().await.unwrap(), Some(Chunk::Missed { bytes: None }));
    log.write(b"new\n");
    assert_eq!(lines(&mut tail).await, ["new"]);
    assert_eq!(tail.offset(), 4);
    // So is a cursor from before.
    let mut late = log.tail(Start::Offset(1000)).await;
    assert_eq!(late.next().await.unwrap(), Some(Chunk::Missed { bytes: None }));
    assert_eq!(lines(&mut late).await, ["new"]);
}

#[tokio::test]
async fn a_deleted_log_is_said_once_and_read_on() {
    let mut log = Log::with(b"one\n");
    let mut tail = log.tail(Start::Floor).await;
    assert_eq!(lines(&mut tail).await, ["one"]);
    std::fs::remove_file(&log.path).unwrap();
    assert_eq!(tail.next().await.unwrap(), Some(Chunk::Deleted));
    log.write(b"two\nrest");
    assert_eq!(lines(&mut tail).await, ["two"]);
    log.finish.send_replace(true);
    assert_eq!(lines(&mut tail).await, ["rest"]);
    assert_eq!(tail.next().await.unwrap(), None);
}

#[tokio::test]
async fn those_who_read_at_the_same_place_read_once() {
    let mut log = Log::with(b"one\n");
    let watcher = Watcher::start();
    let mut one = tail_of(&log.path, Start::Floor, log.finish.subscribe(), &watcher).await;
    let mut two = tail_of(&log.path, Start::Floor, log.finish.subscribe(), &watcher).await;
    let mut ways = Vec::new();
    for text in [&b"two\n"[..], b"thr", b"ee\nfo", b"ur\n"] {
        log.write(text);
        if text.ends_with(b"thr") {
            continue;
        }
        let (Some(Chunk::Lines(a)), Some(Chunk::Lines(b))) =
            (one.next().await.unwrap(), two.next().await.unwrap())
        else {
            panic!("no lines")
        };
        ways.push((a.len(), Arc::ptr_eq(&a, &b)));
        assert_eq!(one.offset(), two.offset());
    }
    assert_eq!(ways, [(2, true), (1, true), (1, true)]);
    // What was emptied is not given from memory.
    log.file.set_len(0).unwrap();
    assert_eq!(one.next().await.unwrap(), Some(Chunk::Missed { bytes: None }));
    log.write(b"new\n");
    assert_eq!(lines(&mut one).await, ["new"]);
}

#[tokio::test]
async fn a_log_of_an_ended_run_that_is_deleted_has_just_ended() {
    let log = Log::with(b"one\n");
    let mut tail = log.tail(Start::Floor).await;
    log.finish.send_replace(true);
    std::fs::remove_file(&log.path).unwrap();
    assert_eq!(lines(&mut tail).await, ["one"]);
    assert_eq!(tail.next().await.unwrap(), None);
}

/// A writer at full speed, a trimmer at its heels, readers fast and slow: offsets touch, each line
/// is the one that was written there, and what was freed is counted to the byte.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trimming_under_load_loses_and_doubles_nothing_above_the_floor() {
    const TOTAL_BYTES: u64 = 24_000_000;
    let log = Log::new();
    let mut readers = Vec::new();
    for (pause_every_bytes, pause_ms) in [(u64::MAX, 0), (200_000, 5), (2_000_000, 100)] {
        let tail = log.tail(Start::Floor).await;
        readers.push(tokio::spawn(read_and_check(tail, pause_every_bytes, pause_ms)));
    }
    let Log { directory, path, mut file, finish } = log;
    let writing = Arc::new(AtomicBool::new(true));
    let trimmer = std::thread::spawn({
        let (path, writing) = (path.clone(), Arc::clone(&writing));
        move || {
            let mut times_freed = 0;
            while writing.load(Ordering::Acquire) {
                if let Trim::Freed { .. } = freed(&path, 1_000_000) {
                    times_freed += 1;
                }
            }
            times_freed
        }
    });
    let writer = std::thread::spawn(move || {
        let mut offset = 0_u64;
        let mut burst = Vec::new();
        let mut lengths = (0..160_usize).cycle().step_by(7);
        while offset < TOTAL_BYTES {
            burst.clear();
            for length in lengths.by_ref().take(64) {
                // Each line says where it is.
                let line = format!("{offset}:{}\n", "x".repeat(length));
                offset += line.len() as u64;
                burst.extend(line.as_bytes());
            }
            file.write_all(&burst).unwrap();
        }
        offset
    });
    let end = tokio::task::spawn_blocking(move || writer.join().unwrap()).await.unwrap();
    writing.store(false, Ordering::Release);
    assert!(trimmer.join().unwrap() >= 3, "the head was freed while it was read");
    finish.send_replace(true);
    for reader in readers {
        let read = reader.await.unwrap();
        assert_eq!(read.seen_bytes + read.missed_bytes, end);
        assert!(read.seen_bytes > 0);
    }
    drop(directory);
}

#[derive(Default)]
struct Account {
    seen_bytes: u64,
    missed_bytes: u64,
}

/// Reads to the end. A slow reader is one that pauses: here time is the subject.
async fn read_and_check(mut tail: Tail, pause_every_bytes: u64, pause_ms: u64) -> Account {
    let mut account = Account::default();
    let mut next_pause = pause_every_bytes;
    while let Some(chunk) = tail.next().await.unwrap() {
        match chunk {
            Chunk::Missed { bytes } => account.missed_bytes += bytes.unwrap(),
            Chunk::Deleted => panic!("nobody deleted it"),
            Chunk::Lines(lines) => {
                for line in lines.iter() {
                    let expected = account.seen_bytes + account.missed_bytes;
                    assert_eq!(line.offset, expected);
                    assert_eq!(line.end_offset - line.offset, line.bytes.len() as u64 + 1);
                    let text = String::from_utf8(line.bytes.clone()).unwrap();
                    let (offset, filling) = text.split_once(':').unwrap();
                    assert_eq!(offset.parse::<u64>().unwrap(), line.offset);
                    assert!(filling.bytes().all(|byte| byte == b'x'), "{text:?}");
                    account.seen_bytes += line.end_offset - line.offset;
                }
            }
        }
        if account.seen_bytes > next_pause {
            next_pause = next_pause.saturating_add(pause_every_bytes);
            tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
        }
    }
    account
}
