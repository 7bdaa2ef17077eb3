//! Which value holds, of those set for all models, for one, and for one run.
//!
//! ```text
//!   llama-server's default  <  defaults for all models  <  the model's own  <  this run's
//! ```

use super::Settings;
use serde_json::Value;

/// Who set a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// `start --set`, for one run.
    Run,
    /// The model's own settings.
    Model,
    /// The defaults for all models.
    Defaults,
}

/// The settings of a model, the defaults for all models below them.
#[must_use]
pub fn effective(defaults: &Settings, model: &Settings) -> Settings {
    over(defaults, model)
}

/// `upper` over `lower`.
#[must_use]
pub fn over(lower: &Settings, upper: &Settings) -> Settings {
    let mut settings = lower.clone();
    settings.extend(upper.iter().map(|(key, value)| (key.clone(), value.clone())));
    settings
}

/// The value of a key that holds, and who set it; `None` when nobody did.
#[must_use]
pub fn origin<'a>(
    key: &str,
    run: &'a Settings,
    model: &'a Settings,
    defaults: &'a Settings,
) -> Option<(Layer, &'a Value)> {
    [(Layer::Run, run), (Layer::Model, model), (Layer::Defaults, defaults)]
        .into_iter()
        .find_map(|(layer, settings)| Some((layer, settings.get(key)?)))
}

/// The keys whose values differ between two sets of settings, in order.
#[must_use]
pub fn differences(a: &Settings, b: &Settings) -> Vec<String> {
    let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().filter(|key| a.get(*key) != b.get(*key)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(pairs: &[(&str, i64)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect()
    }

    #[test]
    fn the_nearest_layer_wins() {
        let (defaults, model) = (settings(&[("a", 1), ("b", 1)]), settings(&[("b", 2), ("c", 2)]));
        assert_eq!(effective(&defaults, &model), settings(&[("a", 1), ("b", 2), ("c", 2)]));
        let run = settings(&[("c", 3)]);
        let of = |key| origin(key, &run, &model, &defaults).map(|(layer, _)| layer);
        assert_eq!(
            [of("a"), of("b"), of("c"), of("d")],
            [Some(Layer::Defaults), Some(Layer::Model), Some(Layer::Run), None]
        );
        assert_eq!(differences(&defaults, &model), ["a", "b", "c"]);
    }
}
