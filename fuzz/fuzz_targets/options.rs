//! `KEY=VALUE` as it is typed, or `KEY=` and a JSON value as a program sends it. What is taken is
//! taken again as it was stored.
#![no_main]

use libfuzzer_sys::fuzz_target;
use llamactl_protocol::options::{arguments, look_up, rules, text_of};
use serde_json::Value;

fuzz_target!(|input: &str| {
    let Some((key, value)) = input.split_once('=') else { return };
    let Ok(setting) = look_up(key, None) else { return };
    for value in [Some(Value::from(value)), serde_json::from_str(value).ok()].into_iter().flatten()
    {
        let _ = rules::check_given(&[(key.to_owned(), value.clone())].into_iter().collect());
        let Ok(stored) = setting.check(&value) else { continue };
        let _ = text_of(key, &stored);
        let _ = arguments::of(&setting, &stored, None);
        if !setting.is_secret() && !key.starts_with("env.") {
            let again = setting.check(&stored);
            assert!(
                again.as_ref().is_ok_and(|again| *again == stored),
                "{stored} became {again:?}"
            );
        }
    }
});
