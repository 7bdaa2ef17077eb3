//! `llamactl rpc METHOD [JSON]`

use crate::args::more;
use crate::complete::methods;
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::{Outcome, Quit};
use crate::follow::{conclude, end_of, gone};
use crate::output::Output;
use clap::Args;
use llamactl_protocol::{Failure, Kind};
use serde_json::{Value, json};
use tokio::signal::ctrl_c;

/// Call the daemon's API directly
///
/// Prints the result as JSON. A method whose name ends in `.follow` opens a stream: its items are
/// printed, one per line, until it ends. Parameters go by name; `rpc.discover` describes them all.
#[derive(Args, Debug)]
#[command(after_help = more!(
    "llamactl rpc model.list",
    "llamactl rpc server.show '{\"model\":\"qwen3\"}' | jq .state",
    "llamactl rpc metrics.follow | jq -c .data.host.cpu_busy_ratio";
    "0 done, 2 the parameters are no JSON object, 6 daemon unreachable  else as the failure's kind"
))]
pub(crate) struct Rpc {
    /// The method: noun.verb
    #[arg(add = methods())]
    method: String,
    /// Its parameters, a JSON object
    #[arg(value_name = "JSON")]
    params: Option<String>,
}

/// Calls a method.
pub(crate) async fn run(output: &mut Output, reach: &Reach, args: Rpc) -> Outcome {
    let params = parameters(args.params.as_deref())?;
    let daemon = reach.daemon(Autostart::UnlessStopped).await?;
    if args.method.ends_with(".follow") {
        return stream(output, &daemon, &args.method, &params).await;
    }
    let result = daemon.call_raw(&args.method, &params).await?;
    if output.at_terminal() && !output.json {
        output.json_pretty(&result)
    } else {
        output.json(&result)
    }
}

fn parameters(text: Option<&str>) -> Result<Value, Failure> {
    let usage = |why: String| {
        Failure::new(Kind::Usage, format!("the parameters are no JSON object: {why}"))
            .hint("for example '{\"model\":\"qwen3\"}'")
    };
    match text.map(serde_json::from_str) {
        None => Ok(json!({})),
        Some(Ok(object @ Value::Object(_))) => Ok(object),
        Some(Ok(other)) => Err(usage(format!("{other}"))),
        Some(Err(error)) => Err(usage(error.to_string())),
    }
}

/// Streams any method's items, also of methods this program does not know.
async fn stream(output: &mut Output, daemon: &Daemon, method: &str, params: &Value) -> Outcome {
    let copy = async {
        let mut items = daemon.follow_raw(method, params).await?;
        while let Some(item) = items.next().await? {
            output.json(&item)?;
            if let Some(end) = end_of(item.get()) {
                return conclude(end);
            }
        }
        Err(gone().into())
    };
    tokio::select! {
        outcome = copy => outcome,
        _ = ctrl_c() => Err(Quit::Told(Kind::Interrupted.exit_status())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_an_object() {
        assert_eq!(parameters(None), Ok(json!({})));
        assert_eq!(parameters(Some("{\"a\":1}")), Ok(json!({ "a": 1 })));
        for bad in ["[1]", "7", "{", ""] {
            assert_eq!(parameters(Some(bad)).unwrap_err().kind, Kind::Usage, "{bad}");
        }
    }
}
