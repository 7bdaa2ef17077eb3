//! `llamactl model diff NAME [FROM [TO]]`

use crate::args::more;
use crate::complete::{model_names, revisions_of};
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::output::styled::{GREEN, RED, Styled};
use crate::view::assignment;
use clap::Args;
use llamactl_protocol::model::{Difference, ModelDiff};

/// Compare two revisions of a model
///
/// Without numbers what the last change did; with one, what has changed since that revision.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model diff qwen3",
    "llamactl model diff qwen3 3",
    "llamactl model diff qwen3 3 5 --json | jq .changes";
    "0 done, also when nothing differs, 3 no such model or revision, 6 daemon unreachable"
))]
pub(crate) struct Diff {
    /// A model, by name or alias
    #[arg(add = model_names())]
    name: String,
    /// The earlier revision
    #[arg(add = revisions_of("diff"))]
    from: Option<i64>,
    /// The later revision; absent: the present one
    #[arg(add = revisions_of("diff"))]
    to: Option<i64>,
}

/// Prints what differs, as lines that go and lines that come.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Diff) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let params = ModelDiff { model: args.name.into(), from: args.from, to: args.to };
    let diff = daemon.call(&params).await?;
    if output.json {
        return output.json(&diff);
    }
    if output.quiet {
        return output.names(diff.changes.iter().map(|change| &change.key));
    }
    if diff.changes.is_empty() && (diff.from, diff.to) == (1, 1) {
        output.note(format!("{} was not changed since it was added", diff.model));
    }
    output.lines(diff.changes.iter().flat_map(lines))
}

/// `-key=before` and `+key=after`.
pub(crate) fn lines(change: &Difference) -> Vec<Styled> {
    let line = |sign: &str, style, value: &_| {
        Styled::new().with(style, format!("{sign}{}", assignment(&change.key, value)))
    };
    let before = change.from.as_ref().map(|value| line("-", RED, value));
    let after = change.to.as_ref().map(|value| line("+", GREEN, value));
    before.into_iter().chain(after).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_screen;
    use serde_json::json;

    #[test]
    fn a_change_is_a_line_out_and_a_line_in() {
        let change = |key: &str, from, to| Difference { key: key.into(), from, to };
        let changes = [
            change("temp", Some(json!(0.8)), Some(json!(0.2))),
            change("port", None, Some(json!("auto"))),
            change("ctx-size", Some(json!(8192)), None),
        ];
        assert_screen("model-diff", |output| output.lines(changes.iter().flat_map(lines)));
    }
}
