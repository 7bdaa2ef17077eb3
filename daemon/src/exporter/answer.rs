//! What is answered to a request.

use crate::api::Exposition;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE as CONTENT_TYPE_HEADER, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use llamactl_protocol::series::CONTENT_TYPE;
use std::convert::Infallible;
use std::net::IpAddr;

/// The page at `/`.
const PAGE: &str = "<!doctype html><title>llamactl</title><p>The metrics of llamactl, as Prometheus \
                    reads them: <a href=\"/metrics\">/metrics</a>\n";

pub(super) async fn answer<B>(
    request: Request<B>,
    exposition: Exposition,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let host = request.headers().get(HOST);
    if !host.is_none_or(is_this_machine) {
        // A page of the web that gave this machine's address its own name.
        return Ok(text(StatusCode::FORBIDDEN, "this is served under this machine's name alone\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "this can be read, by GET\n");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    Ok(match request.uri().path() {
        "/metrics" => match exposition.text().await {
            Ok(said) => typed(CONTENT_TYPE, Bytes::from_owner(Shared(said))),
            Err(failure) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n")),
        },
        "/" => typed("text/html; charset=utf-8", Bytes::from_static(PAGE.as_bytes())),
        _ => text(StatusCode::NOT_FOUND, "the metrics are at /metrics\n"),
    })
}

/// A text that many are sent at once.
struct Shared(std::sync::Arc<str>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn text(status: StatusCode, said: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = typed("text/plain; charset=utf-8", said.into());
    *response.status_mut() = status;
    response
}

fn typed(kind: &'static str, said: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(said));
    response.headers_mut().insert(CONTENT_TYPE_HEADER, HeaderValue::from_static(kind));
    response
}

/// Whether a host that was asked for, with a port or without, is this machine as it calls itself.
fn is_this_machine(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.is_empty()
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_own_names_are_answered() {
        for (host, is_it) in [
            ("127.0.0.1:9750", true),
            ("[::1]:9750", true),
            ("localhost", true),
            ("LocalHost:1", true),
            ("", true),
            ("evil.example:9750", false),
            ("10.0.0.1", false),
            ("localhost.evil.example", false),
        ] {
            assert_eq!(is_this_machine(&HeaderValue::from_static(host)), is_it, "{host}");
        }
    }
}
