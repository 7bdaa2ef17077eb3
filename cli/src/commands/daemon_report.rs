//! `llamactl daemon report`

use crate::args::more;
use crate::complete::files;
use crate::connection::Reach;
use crate::exit::Outcome;
use crate::output::Output;
use crate::remote::path_typed;
use crate::report::gather;
use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser as _};
use llamactl_protocol::{Failure, Hint, Kind};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Write what a bug report needs
///
/// Versions, what llamactl doctor finds, configuration, models with their settings, what runs and as what,
/// the last events and the ends of logs, as one text to be read before it is sent. Secrets, values of
/// environment variables, prompts and names of homes are taken out. It works without a daemon too, and says
/// what is missing then.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl daemon report -o report.txt",
    "llamactl daemon report --sums | less",
    "llamactl daemon report --json | jq '.doctor.findings[].code'";
    "0 done, also where no daemon answers, 1 the file could not be written, 5 there is such a file already"
))]
pub(crate) struct ReportArgs {
    /// Write it to this file, which only you can read; absent: to stdout
    #[arg(
        long,
        short,
        value_name = "FILE",
        value_parser = OsStringValueParser::new().try_map(path_typed),
        add = files()
    )]
    output: Option<PathBuf>,
    /// Also sum the files of models that run; of large ones it takes minutes
    #[arg(long)]
    sums: bool,
}

/// Writes the report.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: ReportArgs) -> Outcome {
    output.progress(&["looking".to_owned()]);
    let (report, redactor) = gather(reach, args.sums).await?;
    let report = report.redacted(&redactor);
    output.progress(&[]);
    let text = match output.json {
        true => serde_json::to_string(&report).unwrap_or_default() + "\n",
        false => report.text(),
    };
    let Some(path) = args.output else {
        // What logs and settings hold is shown as what is printed always is.
        return match output.json {
            true => output.json(&report),
            false => output.lines(text.lines()),
        };
    };
    write(&path, &text).map_err(|error| failure(&path, &error))?;
    if output.for_people() {
        output.note(format!("read {} before you send it", path.display()));
    }
    Ok(())
}

/// To a file that is not there yet: a link could lie in wait.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn failure(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(Kind::InvalidValue, format!("there is a file {shown} already"))
                .hint("name another")
        }
        io::ErrorKind::NotFound => {
            let dir = path.parent().unwrap_or(Path::new("/")).display().to_string();
            Failure::new(Kind::IoFailed, format!("{shown} cannot be written: there is no {dir}"))
                .hint(Hint::run("make the directory", ["mkdir", "-p", &dir]))
        }
        _ => Failure::new(Kind::IoFailed, format!("{shown} cannot be written: {error}"))
            .hint("write it elsewhere, or to standard output: leave -o out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn why_a_report_was_not_written_and_what_to_do() {
        let path = Path::new("/nowhere/at/all/report.txt");
        let nowhere = failure(path, &write(path, "").unwrap_err());
        let there =
            failure(Path::new("/etc/passwd"), &write(Path::new("/etc/passwd"), "").unwrap_err());
        assert_screen("daemon-report-refused", |output| {
            let _ = scene::told(output, nowhere.clone());
            scene::told(output, there.clone())
        });
    }
}
