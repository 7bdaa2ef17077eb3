//! `llamactl logs NAME`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::follow;
use crate::output::Output;
use crate::output::styled::{DIM, RED, Style, Styled, YELLOW};
use crate::output::time::parse_moment;
use clap::Args;
use llamactl_protocol::log::{LogFollow, LogLevel, LogLine, LogStream};

/// Lines shown at a terminal when nothing says how many.
const TERMINAL_LINES: u32 = 50;

/// Show what a model's server wrote
///
/// At a terminal the last 50 lines, in a pipe all that is kept. With -f new lines follow, also
/// those of later runs.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl logs qwen3 -f",
    "llamactl logs qwen3 -n 200",
    "llamactl logs qwen3 --since 10m | grep -i error";
    "0 done  3 no such model or run  6 daemon unreachable  130 interrupted"
))]
pub(crate) struct Logs {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// Go on with new lines as they come
    #[arg(long, short)]
    follow: bool,
    /// Begin this many lines before the end
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<u32>,
    /// Begin at this time: 10m (ago), 2026-01-31 12:00, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<i64>,
    /// The server's standard output instead of its log
    #[arg(long)]
    stdout: bool,
    /// Only this run
    #[arg(long, value_name = "ID")]
    run: Option<String>,
}

/// Shows a log.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Logs) -> Outcome {
    let default = output.terminal && !output.json && args.since.is_none();
    let params = LogFollow {
        model: args.name,
        run_id: args.run,
        stream: args.stdout.then_some(LogStream::Stdout),
        lines: args.lines.or(default.then_some(TERMINAL_LINES)),
        since_ms: args.since,
        after: None,
        follow: Some(args.follow),
    };
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let mut stream = daemon.follow(&params).await?;
    // The stream has its own connection; an idle one beside it would be in the way.
    drop(daemon);
    follow::to_stdout(output, &mut stream, |output, line| output.line_unflushed(styled(line))).await
}

/// A line, painted by how grave llama-server says it is.
pub(crate) fn styled(line: LogLine) -> Styled {
    let style = match line.level {
        Some(LogLevel::Error) => RED,
        Some(LogLevel::Warning) => YELLOW,
        Some(LogLevel::Debug) => DIM,
        Some(LogLevel::Info) | None => Style::new(),
    };
    Styled::new().with(style, line.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::follow::missed;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::stream::Missed;

    #[test]
    fn lines_as_they_were_written() {
        let line = |level, text: &str| LogLine {
            run_id: "r".into(),
            stream: LogStream::Stderr,
            level,
            text: text.into(),
            cut: false,
        };
        let lines = [
            line(Some(LogLevel::Info), "0.00.882.024 I srv  llama_server: model loaded"),
            line(Some(LogLevel::Error), "0.00.882.025 E srv  \u{1b}]0;a title\u{7} out of memory"),
            line(None, &"a long line ".repeat(10)),
        ];
        assert_screen("logs", |output| {
            output.aside(missed(Missed { items: None, bytes: Some(12_288) }));
            output.lines(lines.iter().cloned().map(styled))
        });
    }
}
