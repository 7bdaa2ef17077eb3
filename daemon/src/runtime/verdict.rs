//! Which settings a build does not take. Pure.

use llamactl_protocol::options::command_line::{self, Word};
use llamactl_protocol::options::rules::EXTRA_ARGS;
use llamactl_protocol::options::{Build, Settings, look_up, successors};
use llamactl_protocol::{Failure, Kind, WirePath};
use serde_json::{Value, json};
use std::path::Path;

/// The settings that a build does not take, by key, with why. What the catalogue says of their
/// values was checked when they were set; here only the build is asked.
#[must_use]
pub fn refusals(build: &Build, settings: &Settings) -> Vec<(String, Failure)> {
    let mut refused = Vec::new();
    for (key, value) in &successors::for_build(settings, build) {
        if key == EXTRA_ARGS {
            refused.extend(extra(build, value).into_iter().map(|failure| (key.clone(), failure)));
        } else if let Err(failure) = takes(build, key, value) {
            refused.push((key.clone(), failure));
        }
    }
    refused
}

fn takes(build: &Build, key: &str, value: &Value) -> Result<(), Failure> {
    build.accept(&look_up(key, Some(build))?, value)
}

/// The arguments that a build does not take.
fn extra(build: &Build, value: &Value) -> Vec<Failure> {
    let words = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    let arguments: Vec<WirePath> = words.map(WirePath::from).collect();
    let read = command_line::read(&arguments, Some(build), Path::new("/"));
    read.into_iter()
        .filter_map(|word| match word {
            Word::Setting { key, value, .. } => takes(build, &key, &value).err(),
            Word::Unknown { flag, .. } => Some(
                Failure::new(Kind::UnknownOption, format!("{} has no option {flag}", build.name()))
                    .hint("take it out of extra-args, or use a runtime that has it")
                    .details(json!({ "key": EXTRA_ARGS, "argument": flag })),
            ),
            Word::Refused { failure, .. } => Some(failure),
            Word::Path(_) | Word::Alias(_) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::options_in;

    fn build() -> Build {
        let help = "-m,    --model FNAME                    model path\n\
                    -c,    --ctx-sizes N                    size of the prompt context\n\
                    -ngl,  --gpu-layers N                   layers on the GPU\n\
                    --mode {a,b}                            a mode (default: a)\n";
        Build::new("llama-server 1".to_owned(), options_in(help))
    }

    fn refused(settings: &[(&str, Value)]) -> Vec<(String, Failure)> {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        refusals(&build(), &settings.collect())
    }

    #[test]
    fn what_the_build_has_is_taken() {
        let taken = [
            ("gpu-layers", json!(3)),
            ("mode", json!("b")),
            ("port", json!("auto")),
            ("env.A", json!("1")),
            ("extra-args", json!(["--mode", "a", "-ngl", "4"])),
        ];
        assert_eq!(refused(&taken), []);
    }

    #[test]
    fn what_it_lacks_is_refused_with_the_nearest() {
        let all = refused(&[
            ("ctx-size", json!(512)),
            ("mode", json!("c")),
            ("extra-args", json!(["--frobnicate", "1", "--mode", "x"])),
            ("gpu-layers", json!(1)),
        ]);
        let keys: Vec<&str> = all.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["ctx-size", "extra-args", "extra-args", "mode"]);
        let (_, failure) = &all[0];
        assert_eq!(failure.kind, Kind::UnknownOption);
        assert!(failure.hints.0[0].text.contains("ctx-sizes"), "{failure:?}");
        assert!(all[1].1.message.contains("--frobnicate"), "{:?}", all[1]);
        assert!(all[3].1.message.contains("it takes a, b"), "{:?}", all[3]);
    }
}
