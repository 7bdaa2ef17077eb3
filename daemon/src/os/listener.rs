//! Which process listens on a TCP port.

use std::fs;
use std::io;
use std::net::SocketAddr;

/// Whether the process holds the socket that listens on this address. Reads `/proc` and waits for
/// nothing.
///
/// # Errors
/// What `/proc` refuses: the process is gone, or another user's.
pub fn listens(pid: u32, address: SocketAddr) -> io::Result<bool> {
    let table = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let inodes = inodes_in(&fs::read_to_string(table)?, address.port());
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(link) = fs::read_link(entry?.path()) else { continue };
        let link = link.to_string_lossy();
        let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        if inode.is_some_and(|inode| inodes.iter().any(|listening| listening == inode)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The inodes of the sockets that listen on a port, from the kernel's table: `sl local_address
/// rem_address st tx:rx tr:when retrnsmt uid timeout inode …`, the port in hexadecimal, 0A for
/// listening.
fn inodes_in(table: &str, port: u16) -> Vec<String> {
    let wanted = format!("{port:04X}");
    let listening = |line: &str| -> Option<String> {
        let mut fields = line.split_whitespace();
        let (_, found) = fields.nth(1)?.rsplit_once(':')?;
        let state = fields.nth(1)?;
        (found == wanted && state == "0A").then(|| fields.nth(5).map(str::to_owned))?
    };
    table.lines().skip(1).filter_map(listening).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_listener_is_found_in_its_own_process_and_no_other() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(listens(std::process::id(), address).unwrap());
        drop(listener);
        assert!(!listens(std::process::id(), address).unwrap());
    }

    #[test]
    fn the_kernels_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1FA5 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0\n   1: 0100007F:1FA5 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(inodes_in(table, 0x1FA5), ["4711"]);
    }
}
