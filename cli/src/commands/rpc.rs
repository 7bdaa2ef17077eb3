//! `llamactl rpc METHOD [JSON]`

use crate::args::more;
use crate::connection::{Autostart, Daemon, Reach};
use crate::exit::{Outcome, Quit};
use crate::follow::gone;
use crate::output::Output;
use clap::Args;
use llamactl_protocol::{Failure, Kind, MAX_MESSAGE_BYTES};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
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
    "0 done  2 the parameters are no JSON object  6 daemon unreachable  else as the failure's kind"
))]
pub(crate) struct Rpc {
    /// The method: noun.verb
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
    if output.terminal && !output.json { output.json_pretty(&result) } else { output.json(&result) }
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

/// One line of the daemon's: the answer, or an item.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    error: Option<ErrorObject<'a>>,
    #[serde(borrow)]
    params: Option<Params<'a>>,
}

#[derive(Deserialize)]
struct Params<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct ErrorObject<'a> {
    code: i32,
    message: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// Streams any method's items, also of methods this program does not know.
async fn stream(output: &mut Output, daemon: &Daemon, method: &str, params: &Value) -> Outcome {
    let (read, mut write) = daemon.greeting(daemon.another()).await??.into_split();
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    write.write_all(format!("{request}\n").as_bytes()).await.map_err(|_| gone())?;
    let copy = copy_items(output, read);
    tokio::select! {
        outcome = copy => outcome,
        _ = ctrl_c() => Err(Quit::Told(Kind::Interrupted.exit_status())),
    }
}

async fn copy_items(output: &mut Output, read: impl AsyncRead + Unpin) -> Outcome {
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(MAX_MESSAGE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        let length = (&mut read).take(limit).read_until(b'\n', &mut line).await;
        match length {
            Ok(0) | Err(_) => return Err(gone().into()),
            Ok(_) => {}
        }
        let unreadable =
            |_| Failure::new(Kind::Internal, "the daemon sent a line that cannot be read");
        let message: Line<'_> = serde_json::from_slice(&line).map_err(unreadable)?;
        if let Some(error) = message.error {
            return Err(failure(&error).into());
        }
        let Some(params) = message.params else { continue };
        output.json(&params.result)?;
        if is_end(params.result) {
            return Ok(());
        }
    }
}

fn is_end(item: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Tagged {
        kind: String,
    }
    serde_json::from_str::<Tagged>(item.get()).is_ok_and(|item| item.kind == "end")
}

fn failure(error: &ErrorObject<'_>) -> Failure {
    let mut data = error
        .data
        .and_then(|data| serde_json::from_str::<serde_json::Map<String, Value>>(data.get()).ok())
        .unwrap_or_default();
    data.insert("message".into(), error.message.clone().into());
    let named: Result<Failure, _> = serde_json::from_value(Value::Object(data));
    named.unwrap_or_else(|_| Failure::new(Kind::from_code(error.code), &error.message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;

    #[test]
    fn parameters_are_an_object() {
        assert_eq!(parameters(None), Ok(json!({})));
        assert_eq!(parameters(Some("{\"a\":1}")), Ok(json!({ "a": 1 })));
        for bad in ["[1]", "7", "{", ""] {
            assert_eq!(parameters(Some(bad)).unwrap_err().kind, Kind::Usage, "{bad}");
        }
    }

    async fn outcome(lines: &str) -> Outcome {
        let mut output = Output::new(Format { json: true, ..Format::default() });
        copy_items(&mut output, lines.as_bytes()).await
    }

    #[tokio::test]
    async fn a_refusal_keeps_its_kind() {
        let refused = r#"{"id":1,"error":{"code":1001,"message":"m","data":{"kind":"model_not_found","hint":"h"}}}"#;
        let Err(Quit::Failure(failure)) = outcome(refused).await else { panic!() };
        assert_eq!((failure.kind, failure.hint.as_deref()), (Kind::ModelNotFound, Some("h")));
        let bare = r#"{"id":1,"error":{"code":-32601,"message":"no"}}"#;
        let Err(Quit::Failure(failure)) = outcome(bare).await else { panic!() };
        assert_eq!(failure.kind, Kind::UnknownMethod);
    }

    #[tokio::test]
    async fn a_stream_without_an_end_was_cut() {
        assert!(outcome("{\"id\":1,\"result\":7}\n").await.is_err());
        let ended = "{\"id\":1,\"result\":7}\n{\"method\":\"x.item\",\"params\":{\"subscription\":7,\"result\":{\"kind\":\"end\",\"data\":{}}}}\n";
        assert!(outcome(ended).await.is_ok());
    }
}
