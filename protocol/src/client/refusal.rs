//! Why a call was refused, as it comes.

use crate::{Failure, Hints, Kind};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A JSON-RPC error object.
#[derive(Deserialize)]
pub(super) struct ErrorObject<'a> {
    code: i32,
    message: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl ErrorObject<'_> {
    /// The failure in it. The daemon's carry it in `data`; others are told by their code.
    pub(super) fn failure(self) -> Failure {
        #[derive(Deserialize)]
        struct Data {
            kind: Kind,
            #[serde(flatten)]
            hints: Hints,
            details: Option<serde_json::Value>,
        }
        let data = self.data.and_then(|data| serde_json::from_str::<Data>(data.get()).ok());
        match data {
            Some(Data { kind, hints, details }) => {
                Failure { kind, message: self.message, hints, details }
            }
            None => Failure::new(Kind::from_code(self.code), self.message),
        }
    }
}
