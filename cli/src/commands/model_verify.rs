//! `llamactl model verify NAME…`

use crate::args::more;
use crate::complete::model_names;
use crate::connection::{Autostart, Reach};
use crate::exit::{Outcome, Quit, Tally};
use crate::output::Output;
use crate::output::units::UNKNOWN;
use crate::pages;
use clap::Args;
use llamactl_protocol::library::{Difference, ModelVerify, Verified};

/// Check model files for damage and changes
///
/// Headers are read, of all parts; that the weights are all there is told from the sizes. Where a
/// file has changed and is good, what is known of it is replaced.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl model verify qwen3",
    "llamactl model verify --all",
    "llamactl model verify --all --json | jq 'select(.ok | not)'";
    "0 all are good, 3 no such model, or a file is gone, 5 a file is damaged, 6 daemon unreachable"
))]
pub(crate) struct Verify {
    /// Models, by name or alias
    #[arg(required_unless_present = "all", value_name = "NAME", add = model_names())]
    names: Vec<String>,
    /// All models
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

/// Looks models' files over.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Verify) -> Outcome {
    let daemon = reach.daemon(Autostart::Always).await?;
    let names = if args.all {
        pages::models(&daemon).await?.into_iter().map(|model| model.name).collect()
    } else {
        args.names
    };
    let mut tally = Tally::default();
    let (all, mut good) = (names.len(), 0);
    for model in names {
        let verified = daemon.call(&ModelVerify { model: model.into() }).await;
        let Some(verified) = tally.take(output, verified.map_err(Quit::from))? else { continue };
        good += usize::from(verified.ok);
        // Of many only what is not as it was is said.
        let is_news = !args.all || !verified.ok || !verified.changed.is_empty();
        if is_news || !output.for_people() {
            show(output, verified, &mut tally)?;
        }
    }
    if args.all && output.for_people() {
        output.told(total(good, all))?;
    }
    tally.end()
}

/// `11 of 12 models are good`
fn total(good: usize, all: usize) -> String {
    match all {
        0 => "there is no model".to_owned(),
        1 => format!("{good} of 1 model is good"),
        all => format!("{good} of {all} models are good"),
    }
}

fn show(output: &mut Output, verified: Verified, tally: &mut Tally) -> Outcome {
    if output.json {
        output.json(&verified)?;
    } else if output.quiet {
        output.names(verified.ok.then_some(&verified.model))?;
    } else if let Some(line) = line(&verified) {
        output.told(line)?;
    }
    for mut problem in verified.problems {
        problem.message = format!("{}: {}", verified.model, problem.message);
        tally.take(output, Err::<(), _>(problem.into()))?;
    }
    Ok(())
}

/// What there is to say beside the problems.
fn line(verified: &Verified) -> Option<String> {
    let name = &verified.model;
    if !verified.ok {
        return None;
    }
    if verified.changed.is_empty() {
        return Some(format!("{name} is good"));
    }
    let changed: Vec<String> = verified.changed.iter().map(difference).collect();
    Some(format!("{name} is good, and has changed: {}", changed.join(", ")))
}

fn difference(difference: &Difference) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| UNKNOWN.to_owned());
    match difference.what.as_str() {
        // Numbers that say nothing to a person.
        "inode" => "another file".to_owned(),
        "modified_at_ms" => "written to since".to_owned(),
        what => format!("{what} {} → {}", value(&difference.was), value(&difference.is)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::{Failure, Kind};

    #[test]
    fn sound_changed_and_damaged() {
        let changed = |what: &str, was: Option<&str>, is: &str| Difference {
            what: what.into(),
            was: was.map(str::to_owned),
            is: Some(is.into()),
        };
        let sound = |model: &str| Verified {
            model: model.into(),
            ok: true,
            problems: vec![],
            changed: vec![],
            refreshed: false,
        };
        let mut other = sound("gemma");
        other.changed = vec![
            changed("quantization", None, "F16"),
            changed("modified_at_ms", Some("1"), "2"),
            changed("inode", Some("1"), "2"),
        ];
        let mut damaged = sound("phi-4");
        damaged.ok = false;
        damaged.problems = vec![
            Failure::new(
                Kind::GgufInvalid,
                "/m/phi-4.gguf ends early: 3.1 GiB of 8.4 GiB are there",
            )
            .hint("download it again"),
        ];
        assert_screen("model-verify", |output| {
            let mut tally = Tally::default();
            for verified in [sound("qwen3-8b"), other.clone(), damaged.clone()] {
                show(output, verified, &mut tally)?;
            }
            output.told(total(2, 3))?;
            tally.end()
        });
    }
}
