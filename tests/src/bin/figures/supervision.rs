//! What supervision costs, and how soon it acts.

mod adoption;
mod readiness;
mod respawn;
mod rest;

use llamactl_tests::specification::Measured;

/// From the death of a server to the next.
pub(super) fn respawn(measured: &mut Measured) {
    println!(
        "\nkill -9 of a ready llama-server to the first act of the next, p50 (p99) of {}, beside \
         a bare waitpid and spawn",
        respawn::TRIES
    );
    let respawn::Figures { dying, floor, respawn } = respawn::measure();
    println!("  the killed process is gone   {}", dying.ms());
    println!("  waitpid and spawn            {}", floor.ms());
    println!("  llamactld                    {}  {:.2} x", respawn.ms(), respawn.p50 / floor.p50);
    measured.note("respawn", respawn.p50 / floor.p50);
}

/// From a server that is ready to whoever waits for it.
pub(super) fn readiness(measured: &mut Measured) {
    println!(
        "\n/health turns 200 to `ready` in server.follow, p50 (p99) of {}, seen from outside by \
         asking every {} us; fake llama-server",
        readiness::TRIES,
        readiness::PACE.as_micros()
    );
    let readiness::Figures { reporting, logging } = readiness::measure();
    println!("  a build that reports it      {}", reporting.ms());
    println!("  one that only logs it        {}", logging.ms());
    measured.note("readiness", reporting.p50 / 1e3);
    measured.note("readiness-log", logging.p50 / 1e3);
}

/// From the start of a daemon to all servers taken over.
pub(super) fn adoption(measured: &mut Measured) {
    println!(
        "\nspawn of a daemon, after SIGKILL of the last, to all servers ready under their old pids, \
         p50 (max) of {}, beside a daemon with none to its first answer; fake llama-server",
        adoption::TRIES
    );
    let adoption::Figures { bare, floor, adoption } = adoption::measure();
    println!("  a no-op and a bare commit    {}", bare.ms());
    println!(
        "  no server                    {}  {:.2} x of that",
        floor.ms(),
        floor.p50 / bare.p50
    );
    println!(
        "  {} servers                    {}  {:.2} x",
        adoption::SERVERS,
        adoption.ms(),
        adoption.p50 / floor.p50
    );
    measured.note("start", floor.p50 / bare.p50);
    measured.note("adoption", adoption.p50 / floor.p50);
}

/// What the daemon uses when nobody wants anything.
pub(super) fn rest(measured: &mut Measured) {
    println!(
        "\nthe daemon at rest, each second, over {} s; everything is sampled every second, a quiet \
         server is looked at every 30 s",
        rest::OVER.as_secs()
    );
    let rest::Figures { resident_bytes, alone, floor_ms, with_servers } = rest::measure();
    let added = (with_servers.wakeups - alone.wakeups) / f64::from(rest::SERVERS);
    println!("  no server                    {alone}");
    println!("  {} servers ready, idle        {with_servers}", rest::SERVERS);
    println!("  each server adds             {added:8.2} wakeups");
    println!("  files read, blocks inserted                    {floor_ms:8.2} ms of a processor");
    println!(
        "  of that of the daemon, sampling and storing    {:8.2} ms",
        with_servers.sampling_ms
    );
    println!("  resident memory, no server   {:8.1} MB", resident_bytes as f64 / 1e6);
    measured.note("memory", resident_bytes as f64 / 1e6);
    measured.note("wakeups", alone.wakeups);
    measured.note("wakeups-server", added.max(0.0));
    measured.note("rest", with_servers.processor_ms / floor_ms);
    measured.note("sample", with_servers.sampling_ms / floor_ms);
}
