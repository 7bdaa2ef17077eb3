//! `llamactl doctor`

use crate::args::more;
use crate::connection::Reach;
use crate::doctor::{Examined, examine, fix};
use crate::exit::{Outcome, Quit};
use crate::output::Output;
use crate::output::facts::{Facts, painted};
use crate::output::styled::{DIM, RED, Style, YELLOW};
use clap::Args;
use llamactl_protocol::Kind;
use llamactl_protocol::doctor::Severity;
use llamactl_protocol::prose::counted;

/// Look for what is wrong, and say how to mend it
///
/// The daemon, its registry and copies, disks, runtimes, model files, memory, limits, units and PATH.
/// It works without a daemon too. Nothing is changed without --fix, which asks nothing and does only what
/// is safe: docs/doctor.md says what, and what each finding means.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl doctor",
    "llamactl doctor --fix",
    "llamactl doctor --json | jq -r '.findings[] | select(.severity == \"error\") | .message'";
    "0 nothing but notes, 1 errors or warnings were found"
))]
pub(crate) struct Doctor {
    /// Mend what can be mended safely, then look again
    #[arg(long)]
    fix: bool,
}

/// Looks, mends, and says it.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Doctor) -> Outcome {
    output.progress(&["looking".to_owned()]);
    let (mut examined, _) = examine(reach).await?;
    if args.fix {
        let (mut fixed, mut not_fixed) = (vec![], vec![]);
        for finding in &examined.findings {
            match fix(reach, finding).await {
                Some(Ok(done)) => fixed.push(done),
                Some(Err(why)) => not_fixed.push(why),
                None => {}
            }
        }
        if !fixed.is_empty() {
            (examined, _) = examine(reach).await?;
        }
        examined = Examined { fixed, not_fixed, ..examined };
    }
    output.progress(&[]);
    show(output, &examined)?;
    match examined.findings.iter().any(|finding| finding.severity < Severity::Note) {
        true => Err(Quit::Told(Kind::Unknown.exit_status())),
        false => Ok(()),
    }
}

fn show(output: &mut Output, examined: &Examined) -> Outcome {
    if output.json {
        return output.json(examined);
    }
    if output.quiet {
        return output.names(examined.findings.iter().map(|finding| finding.code.as_str()));
    }
    examined.fixed.iter().try_for_each(|done| output.line_unflushed(format!("mended: {done}")))?;
    for why in &examined.not_fixed {
        output.warning(format!("not mended: {why}"));
    }
    let mut facts = Facts::new();
    for finding in &examined.findings {
        let style = style(finding.severity);
        let said =
            painted(style, finding.message.as_str()).with(DIM, format!(" ({})", finding.code));
        facts.add(finding.severity.as_str(), said);
        finding.hints.0.iter().for_each(|hint| facts.add_hint(finding.severity.as_str(), hint));
    }
    output.facts(facts)?;
    for why in &examined.not_checked {
        output.note(why.as_str());
    }
    output.line(summary(examined))
}

fn style(severity: Severity) -> Style {
    match severity {
        Severity::Error => RED,
        Severity::Warning => YELLOW,
        Severity::Note => Style::new(),
    }
}

/// `1 error, 2 warnings`
fn summary(examined: &Examined) -> String {
    let count = |severity| {
        let count = examined.findings.iter().filter(|it| it.severity == severity).count();
        (count > 0).then(|| counted(count as u64, severity.as_str()))
    };
    let counts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .filter_map(count)
        .collect();
    let rest = if examined.not_checked.is_empty() { "" } else { "; not everything was looked at" };
    match counts.as_slice() {
        [] => format!("nothing is wrong{rest}"),
        counts => format!("{}{rest}", counts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_screen;
    use llamactl_protocol::Hint;
    use llamactl_protocol::doctor::{Finding, FindingCode, sort};

    #[test]
    fn what_was_found_the_worst_first() {
        let mut findings = vec![
            Finding::new(FindingCode::OtherServer, "/opt/llama/llama-server (pid 812) runs, and is not this daemon's")
                .hint(Hint::run("see whose it is", ["ps", "-o", "user,args", "-p", "812"])),
            Finding::new(
                FindingCode::PromptCaches,
                "the prompt caches of qwen3 and gemma3 may take 16.0 GiB, and there are 15.6 GiB of memory",
            )
            .hint(Hint::run(
                "let each take 1 GiB at most",
                ["llamactl", "defaults", "set", "cache-ram=1024"],
            )),
            Finding::new(FindingCode::RegistryDamaged, "the registry is damaged: row 7 missing from index runs")
                .hint(Hint::run("end the daemon; its servers stay", ["llamactl", "daemon", "stop", "--keep-servers"]))
                .hint(Hint::run("go back to the newest good copy", ["llamactl", "daemon", "restore"])),
        ];
        sort(&mut findings);
        let examined = Examined {
            findings,
            fixed: vec!["llamactl daemon restart".to_owned()],
            ..Examined::default()
        };
        assert_screen("doctor", |output| {
            show(output, &examined)?;
            show(output, &Examined::default())
        });
    }
}
