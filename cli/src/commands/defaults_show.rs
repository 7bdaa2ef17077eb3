//! `llamactl defaults show`

use crate::args::more;
use crate::connection::{Autostart, Reach};
use crate::exit::Outcome;
use crate::output::Output;
use crate::view::assignment;
use clap::Args;
use llamactl_protocol::defaults::{Defaults, DefaultsShow};

/// Show the settings for all models
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl defaults show",
    "llamactl defaults show --json | jq .settings";
    "0 done, 6 daemon unreachable"
))]
pub(crate) struct Show {}

/// Prints the settings for all models, one on a line.
pub(crate) async fn run(output: &mut Output, reach: &Reach, _: Show) -> Outcome {
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    let defaults = daemon.call(&DefaultsShow {}).await?;
    if output.json {
        return output.json(&defaults);
    }
    if output.quiet {
        return output.names(defaults.settings.keys());
    }
    if defaults.settings.is_empty() {
        output.note("no settings for all models; set one: llamactl defaults set KEY=VALUE");
    }
    output.lines(lines(&defaults))
}

fn lines(defaults: &Defaults) -> impl Iterator<Item = String> {
    defaults.settings.iter().map(|(key, value)| assignment(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_screen;
    use serde_json::json;

    #[test]
    fn a_setting_is_a_line() {
        let settings = [
            ("api-key".to_owned(), json!({ "secret": "kept" })),
            ("grammar".to_owned(), json!("root ::= x\nx ::= y")),
            ("threads".to_owned(), json!(8)),
        ];
        let defaults = Defaults { settings: settings.into(), ..Defaults::default() };
        assert_screen("defaults-show", |output| output.lines(lines(&defaults)));
    }
}
