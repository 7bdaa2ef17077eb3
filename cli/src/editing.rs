//! A refused text as it is opened again: the reason on top and beside the line.

use llamactl_protocol::Failure;
use serde_json::Value;

/// What the lines of a refusal begin with.
const MARK: &str = "#!";

/// The text with the refusal on top and below the line it is about.
pub(crate) fn marked(text: &str, failure: &Failure) -> String {
    let line = failure.details.as_ref().and_then(|details| details.get("line"));
    let line = line.and_then(Value::as_u64).and_then(|line| usize::try_from(line).ok());
    let mut lines = vec![format!("{MARK} This was not taken; nothing is changed yet:")];
    let said = failure.hints.lines().map(|hint| format!("hint: {hint}"));
    for sentence in failure.message.lines().map(str::to_owned).chain(said) {
        lines.push(format!("{MARK}   {sentence}"));
    }
    lines.push(format!("{MARK} Mend it and save, or leave without a change to give up."));
    for (index, content) in text.lines().enumerate() {
        lines.push(content.to_owned());
        if line == Some(index + 1) {
            lines.push(format!("{MARK} ^ here: {}", failure.message.replace('\n', " ")));
        }
    }
    lines.join("\n") + "\n"
}

/// The text without the lines that [`marked`] put in.
pub(crate) fn unmarked(text: &str) -> String {
    let kept: Vec<&str> = text.split_inclusive('\n').filter(|it| !it.starts_with(MARK)).collect();
    kept.concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::screen::assert_text;
    use llamactl_protocol::Kind;
    use serde_json::json;

    #[test]
    fn the_refusal_stands_beside_its_line_and_goes_away_again() {
        let text = "# a\npath = \"/x\"\n[settings]\ntemp = 9\n";
        let failure = Failure::new(Kind::InvalidValue, "line 4: temp cannot be 9")
            .hint("for example temp=0.8")
            .details(json!({ "line": 4 }));
        let shown = marked(text, &failure);
        assert_text("model-edit", &shown);
        assert_eq!(unmarked(&shown), text);
        assert_eq!(unmarked(&marked(text, &Failure::new(Kind::Unreadable, "x"))), text);
    }
}
