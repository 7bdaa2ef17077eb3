//! What supervision costs, and how soon it acts.

mod adoption;
mod readiness;
mod respawn;
mod rest;

/// From the death of a server to the next.
pub(super) fn respawn() {
    println!(
        "\nkill -9 of a ready llama-server to the first act of the next, p50 (p99) of {}, beside \
         a bare waitpid and spawn",
        respawn::TRIES
    );
    let respawn::Figures { dying, floor, respawn } = respawn::measure();
    println!("  the killed process is gone   {}", dying.ms());
    println!("  waitpid and spawn            {}", floor.ms());
    println!("  llamactld                    {}  {:.2} x", respawn.ms(), respawn.p50 / floor.p50);
}

/// From a server that is ready to whoever waits for it.
pub(super) fn readiness() {
    println!(
        "\n/health turns 200 to `ready` in server.follow, p50 (p99) of {}, seen from outside by \
         asking every {} us; fake llama-server",
        readiness::TRIES,
        readiness::PACE.as_micros()
    );
    let readiness::Figures { reporting, logging } = readiness::measure();
    println!("  a build that reports it      {}", reporting.ms());
    println!("  one that only logs it        {}", logging.ms());
}

/// From the start of a daemon to all servers taken over.
pub(super) fn adoption() {
    println!(
        "\nspawn of a daemon, after SIGKILL of the last, to all servers ready under their old pids, \
         p50 (max) of {}, beside a daemon with none to its first answer; fake llama-server",
        adoption::TRIES
    );
    let adoption::Figures { floor, adoption } = adoption::measure();
    println!("  no server                    {}", floor.ms());
    println!(
        "  {} servers                    {}  {:.2} x",
        adoption::SERVERS,
        adoption.ms(),
        adoption.p50 / floor.p50
    );
}

/// What the daemon uses when nobody wants anything.
pub(super) fn rest() {
    println!(
        "\nthe daemon at rest, each second, over {} s; everything is sampled every second, a quiet \
         server is looked at every 30 s",
        rest::OVER.as_secs()
    );
    let rest::Figures { alone, with_servers } = rest::measure();
    let added = (with_servers.wakeups - alone.wakeups) / f64::from(rest::SERVERS);
    println!("  no server                    {alone}");
    println!("  {} servers ready, idle        {with_servers}", rest::SERVERS);
    println!("  each server adds             {added:8.1} wakeups");
}
