//! What a llama-server writes: lines, their level and time, progress, and why it ended.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llamactld::logs::classify::{Context, Exit, classify};
use llamactld::logs::{line::Line, progress, split::Splitter};

fuzz_target!(|input: &[u8]| {
    let mut splitter = Splitter::new(0, false);
    let mut whole = Vec::new();
    // In pieces, as it comes out of a pipe; the first byte says how large.
    let size = input.first().map_or(1, |first| usize::from(*first) + 1);
    for piece in input.chunks(size) {
        splitter.push(piece);
        whole.extend(splitter.take(usize::MAX));
    }
    whole.extend(splitter.finish());
    let mut end = 0;
    for raw in &whole {
        assert_eq!(raw.offset, end, "a line begins where the one before ended");
        end = raw.end_offset;
        let _ = Line::parse(&raw.bytes).at_ms(0);
        let _ = progress::prompt_cache_bytes(&raw.bytes);
    }
    assert_eq!(end, input.len() as u64, "nothing is lost");
    let text = String::from_utf8_lossy(input);
    let tail: Vec<String> = text.lines().take(200).map(str::to_owned).collect();
    for line in &tail {
        let _ = progress::parse(line);
        let _ = progress::is_listening_line(line);
    }
    for exit in [Exit::Code(1), Exit::Signal(6)] {
        let _ = classify(exit, &tail, Context::default());
    }
});
