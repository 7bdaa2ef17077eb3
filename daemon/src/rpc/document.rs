//! The OpenRPC document, made from the types that cross the wire.
//!
//! OpenRPC knows no streams and no access, so both stand in extensions: `x-access` on every
//! method, `x-subscription` on those that open a stream.

use llamactl_protocol::{Access, Item, Kind, Method, PROTOCOL, Subscription};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What is registered, described.
pub(super) struct Document {
    schemas: SchemaGenerator,
    methods: BTreeMap<&'static str, Value>,
}

impl Document {
    pub(super) fn new() -> Self {
        let settings = SchemaSettings::draft07()
            .with(|settings| settings.definitions_path = "/components/schemas".into());
        Document { schemas: settings.into_generator(), methods: BTreeMap::new() }
    }

    pub(super) fn method<M: Method>(&mut self) {
        let mut method = self.described::<M>(M::NAME, M::ACCESS);
        let name = M::Output::schema_name();
        let schema = self.schemas.subschema_for::<M::Output>();
        method.insert("result".into(), json!({"name": name, "schema": schema}));
        self.methods.insert(M::NAME, Value::Object(method));
    }

    pub(super) fn stream<S: Subscription, Close: JsonSchema>(&mut self) {
        let mut open = self.described::<S>(S::NAME, S::ACCESS);
        open.insert(
            "result".into(),
            json!({"name": "subscription", "schema": {
                "type": "integer", "minimum": 1,
                "description": "The stream's number in this connection; every item carries it.",
            }}),
        );
        let item = self.schemas.subschema_for::<Item<S::Item>>();
        open.insert(
            "x-subscription".into(),
            json!({
                "unsubscribe": S::UNSUBSCRIBE, "notification": S::NOTIFICATION, "item": item,
            }),
        );
        self.methods.insert(S::NAME, Value::Object(open));

        let mut close = self.described::<Close>(S::UNSUBSCRIBE, Access::Observe);
        close.insert("result".into(), json!({"name": "closed", "schema": {"type": "boolean"}}));
        self.methods.insert(S::UNSUBSCRIBE, Value::Object(close));
    }

    /// What every method has: its name, its words, its parameters by name, who may call it.
    fn described<P: JsonSchema>(&mut self, name: &str, access: Access) -> Map<String, Value> {
        let params = P::json_schema(&mut self.schemas).to_value();
        let mut method = Map::new();
        method.insert("name".into(), name.into());
        if let Some(description) = params.get("description").and_then(Value::as_str) {
            let summary = description.split("\n\n").next().unwrap_or(description);
            method.insert("summary".into(), summary.replace('\n', " ").into());
            if summary != description {
                method.insert("description".into(), description.into());
            }
        }
        let required: Vec<&Value> =
            params.get("required").and_then(Value::as_array).into_iter().flatten().collect();
        let fields: Vec<Value> = params
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(field, schema)| {
                let required = required.iter().any(|name| name.as_str() == Some(field));
                json!({"name": field, "required": required, "schema": schema})
            })
            .collect();
        method.insert("paramStructure".into(), "by-name".into());
        method.insert("params".into(), fields.into());
        method.insert("x-access".into(), access.as_str().into());
        method
    }

    pub(super) fn openrpc(&self) -> Value {
        let methods: Vec<&Value> = self.methods.values().collect();
        let schemas = self.schemas.clone().take_definitions(true);
        let failures: Vec<Value> = Kind::ALL
            .iter()
            .map(|kind| {
                json!({"kind": kind.name(), "code": kind.code(), "exit_status": kind.exit_status()})
            })
            .collect();
        json!({
            "openrpc": "1.3.2",
            "info": {
                "title": "llamactld",
                "version": env!("CARGO_PKG_VERSION"),
                "x-protocol": PROTOCOL,
            },
            "methods": methods,
            "components": {"schemas": schemas},
            "x-failures": failures,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::kit::{Add, Ticks};
    use super::*;

    type Register = fn(&mut Document);

    fn document(order: [Register; 2]) -> Value {
        let mut document = Document::new();
        order.iter().for_each(|register| register(&mut document));
        document.openrpc()
    }

    #[test]
    fn methods_and_streams_are_described_in_the_order_of_their_names() {
        let add: Register = Document::method::<Add>;
        let ticks: Register = Document::stream::<Ticks, Add>;
        let text = document([add, ticks]);
        assert_eq!(text, document([ticks, add]));

        let names: Vec<&str> = text["methods"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["ticks.follow", "ticks.unfollow", "word.add"]);
        let add = &text["methods"][2];
        assert_eq!(add["summary"], "Adds a word.");
        assert_eq!(add["x-access"], "operate");
        assert_eq!(add["params"][0]["name"], "word");
        assert_eq!(add["params"][0]["required"], true);
        let stream = &text["methods"][0]["x-subscription"];
        assert_eq!(stream["notification"], "ticks.item");
        let item = stream["item"]["$ref"].as_str().unwrap();
        let name = item.strip_prefix("#/components/schemas/").unwrap();
        assert!(text["components"]["schemas"][name].is_object(), "{text}");
    }
}
