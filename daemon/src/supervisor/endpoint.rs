//! Where a server listens.
//!
//! A Unix socket in a directory only the daemon's user can enter, unless a `port` is set: no port
//! to clash, no door open to every web page. `port=auto` takes the port of the last run again
//! where it is free, so that what was configured once in a client stays right.

use crate::llama::Target;
use llamactl_protocol::place::{MAX_SOCKET_PATH_BYTES, PORTS_VARIABLE};
use llamactl_protocol::server::Endpoint;
use llamactl_protocol::{Failure, Kind, WirePath};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::path::Path;
use tokio::net::UnixStream;

/// Ports tried for `port=auto`, in order, where the environment names no others.
const AUTO_PORTS: RangeInclusive<u16> = 8101..=8999;

/// The ports tried for `port=auto`: as [`PORTS_VARIABLE`] says, which is for machines where the
/// usual ones are taken.
fn auto_ports() -> RangeInclusive<u16> {
    let named = std::env::var(PORTS_VARIABLE).ok();
    named.as_deref().and_then(ports_in).unwrap_or(AUTO_PORTS)
}

/// `8101-8999` as a range; `None` for what is none.
fn ports_in(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (0 < first && first <= last).then_some(first..=last)
}

/// What the settings ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listen {
    /// A Unix socket.
    Socket,
    /// This TCP address; no port means any free one.
    Tcp(IpAddr, Option<u16>),
}

impl Listen {
    /// Whether a port is to be chosen: then the ports of earlier runs matter.
    pub(super) fn chooses_port(&self) -> bool {
        matches!(self, Listen::Tcp(_, None))
    }
}

/// What `host` and `port` together ask for.
///
/// # Errors
/// [`Kind::InvalidValue`] for a host name that is not an address. Whether an address that other
/// machines can reach has a key, the rules of settings say.
pub(super) fn asked(settings: &BTreeMap<String, Value>) -> Result<Listen, Failure> {
    let host = settings.get("host").and_then(Value::as_str).unwrap_or("127.0.0.1");
    let address = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().map_err(|_| {
            Failure::new(Kind::InvalidValue, format!("host cannot be {host}: it is no IP address"))
                .hint("give an address, such as 127.0.0.1, or localhost")
        })?,
    };
    Ok(match settings.get("port") {
        None => Listen::Socket,
        Some(Value::Number(port)) => {
            let port = port.as_u64().and_then(|port| u16::try_from(port).ok());
            Listen::Tcp(address, port)
        }
        Some(_) => Listen::Tcp(address, None),
    })
}

/// The endpoint for a start.
///
/// * `last`: the endpoint of the model's last run, whose port `auto` takes again.
/// * `held`: that run is still there, so its port is busy and yet the model's own.
/// * `taken`: ports of other models, which `auto` leaves alone even while they are down.
///
/// # Errors
/// [`Kind::ServerFailed`] when no port is free or the socket's path would be too long.
pub(super) fn choose(
    listen: &Listen,
    servers_dir: &Path,
    model_id: i64,
    last: Option<&Endpoint>,
    held: bool,
    taken: &BTreeSet<u16>,
) -> Result<(Endpoint, Target), Failure> {
    match listen {
        Listen::Socket => {
            let path = servers_dir.join(format!("m{model_id}.sock"));
            let length = path.as_os_str().len();
            if length > MAX_SOCKET_PATH_BYTES {
                return Err(Failure::new(
                    Kind::ServerFailed,
                    format!(
                        "the server's socket {} would be {length} bytes long; a socket's path can \
                         have {MAX_SOCKET_PATH_BYTES}",
                        path.display()
                    ),
                )
                .hint("use a shorter state directory (LLAMACTL_STATE_DIR), or set a port"));
            }
            let endpoint = Endpoint { url: None, socket: Some(WirePath(path.clone())) };
            Ok((endpoint, Target::Socket(path)))
        }
        Listen::Tcp(address, port) => {
            let port = match port {
                Some(port) => *port,
                None => {
                    auto_port(*address, last.and_then(Endpoint::port), held, taken).ok_or_else(
                        || {
                            // Any port would do.
                            if let Err(error) = TcpListener::bind((*address, 0)) {
                                let message = format!("nothing can listen on {address}: {error}");
                                return Failure::new(Kind::ServerFailed, message)
                                    .hint("set host to an address of this machine");
                            }
                            Failure::new(
                                Kind::ServerFailed,
                                format!(
                                    "no port from {} to {} is free",
                                    auto_ports().start(),
                                    auto_ports().end()
                                ),
                            )
                            .hint(format!(
                                "set a port outside that range, or {PORTS_VARIABLE} for the daemon"
                            ))
                        },
                    )?
                }
            };
            let address = SocketAddr::new(*address, port);
            let endpoint = Endpoint { url: Some(format!("http://{address}/v1")), socket: None };
            Ok((endpoint, Target::Address(address)))
        }
    }
}

/// How to reach a server by its recorded endpoint.
#[must_use]
pub(super) fn target(endpoint: &Endpoint) -> Option<Target> {
    Target::of_endpoint(endpoint.socket.as_ref().map(WirePath::as_path), endpoint.url.as_deref())
}

/// Whether a program listens at the address of a server that has ended.
pub(super) fn is_taken(endpoint: &Endpoint) -> bool {
    let Some(Target::Address(address)) = target(endpoint) else { return false };
    std::net::TcpListener::bind(address)
        .is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

/// Whether a process listens where a server did that has ended.
pub(super) async fn is_held(endpoint: &Endpoint) -> bool {
    match target(endpoint) {
        Some(Target::Socket(path)) => UnixStream::connect(path).await.is_ok(),
        _ => is_taken(endpoint),
    }
}

fn auto_port(address: IpAddr, last: Option<u16>, held: bool, taken: &BTreeSet<u16>) -> Option<u16> {
    if held && last.is_some() {
        return last;
    }
    let fresh = auto_ports().filter(|port| !taken.contains(port));
    last.into_iter().chain(fresh).find(|port| TcpListener::bind((address, *port)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings(pairs: &[(&str, Value)]) -> BTreeMap<String, Value> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    #[test]
    fn without_a_port_it_is_a_socket() {
        assert_eq!(asked(&settings(&[])).unwrap(), Listen::Socket);
        assert_eq!(
            asked(&settings(&[("port", json!(8080)), ("host", json!("::1"))])).unwrap(),
            Listen::Tcp("::1".parse().unwrap(), Some(8080))
        );
        let refused = asked(&settings(&[("host", json!("box.lan"))])).unwrap_err();
        assert_eq!(refused.kind, Kind::InvalidValue);
    }

    #[test]
    fn auto_keeps_its_port_and_leaves_those_of_others() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let listen = Listen::Tcp(loopback, None);
        let (first, _) =
            choose(&listen, Path::new("/r"), 1, None, false, &BTreeSet::new()).unwrap();
        let port = first.port().unwrap();
        let (again, _) =
            choose(&listen, Path::new("/r"), 1, Some(&first), false, &BTreeSet::new()).unwrap();
        assert_eq!(again, first);
        let (other, _) =
            choose(&listen, Path::new("/r"), 2, None, false, &BTreeSet::from([port])).unwrap();
        assert_ne!(other.port(), Some(port));
    }

    #[test]
    fn an_address_of_another_machine_is_no_lack_of_ports() {
        // Reserved for documentation: RFC 5737.
        let listen = Listen::Tcp("192.0.2.1".parse().unwrap(), None);
        let refused = choose(&listen, Path::new("/r"), 1, None, false, &BTreeSet::new());
        let message = refused.unwrap_err().message;
        assert!(message.starts_with("nothing can listen on 192.0.2.1: "), "{message}");
    }

    #[test]
    fn a_range_of_ports_is_two_numbers_in_order() {
        assert_eq!(ports_in("9000-9009"), Some(9000..=9009));
        for bad in ["", "9000", "0-5", "9-8", "x-9", "1-99999"] {
            assert_eq!(ports_in(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_endpoint_leads_back_to_its_target() {
        let socket = Endpoint { url: None, socket: Some(WirePath::from("/r/m1.sock")) };
        assert_eq!(target(&socket), Some(Target::Socket("/r/m1.sock".into())));
        let tcp = Endpoint { url: Some("http://[::1]:8101/v1".to_owned()), socket: None };
        assert_eq!((tcp.port(), socket.port()), (Some(8101), None));
        assert_eq!(target(&tcp), Some(Target::Address("[::1]:8101".parse().unwrap())));
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_said_before_the_start() {
        let deep = format!("/{}", "d".repeat(120));
        let refused = choose(&Listen::Socket, Path::new(&deep), 1, None, false, &BTreeSet::new());
        assert_eq!(refused.unwrap_err().kind, Kind::ServerFailed);
    }
}
