//! `llamactl version`

use crate::args::more;
use crate::connection::{Autostart, Reach, VERSION};
use crate::exit::Outcome;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::PROTOCOL;
use llamactl_protocol::daemon::Hello;
use serde_json::json;

/// Show the versions of llamactl and its daemon
///
/// Starts no daemon.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl version",
    "llamactl version --json | jq -r .daemon.version";
    "0 done, whether or not a daemon answers"
))]
pub(crate) struct Version {}

/// Prints this program's version, and the daemon's if one answers.
pub(crate) async fn run(output: &mut Output, reach: &Reach, _: Version) -> Outcome {
    let daemon = match reach.daemon(Autostart::Never).await {
        Ok(daemon) => {
            // The difference, if any, is in the answer itself.
            daemon.quietly();
            daemon.hello().await.ok()
        }
        Err(_) => None,
    };
    show(output, VERSION, daemon.as_ref())
}

fn show(output: &mut Output, own: &str, daemon: Option<&Hello>) -> Outcome {
    if output.json {
        let client = json!({ "version": own, "protocol": PROTOCOL });
        return output.json(&json!({ "client": client, "daemon": daemon }));
    }
    output.line(format!("llamactl {own} (protocol {PROTOCOL})"))?;
    match daemon {
        Some(hello) => output.line(format!(
            "llamactld {} (protocol {}, pid {})",
            hello.version, hello.protocol, hello.pid
        )),
        None => {
            output.aside("no daemon answers");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::scene;
    use crate::output::screen::assert_screen;

    #[test]
    fn both_versions_or_one() {
        let hello = scene::hello();
        assert_screen("version", |output| {
            show(output, "0.2.0", Some(&hello))?;
            show(output, "0.2.0", None)
        });
    }
}
