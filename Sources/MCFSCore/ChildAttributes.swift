package import Glibc

/// Calls `body` with the attributes that a child process of ours starts with (posix_spawn(3)): no signal is blocked, as most
/// are in the threads of this process, which the child would inherit.
///
/// - Parameter ownGroup: whether it leads a process group, so that what it starts can be ended with it.
package func withChildAttributes<Result>(
    ownGroup: Bool = false, _ body: (UnsafePointer<posix_spawnattr_t>) -> Result
) -> Result {
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    // What the daemon ignores would stay ignored in a program that knows nothing of it.
    var all = sigset_t()
    sigfillset(&all)
    posix_spawnattr_setsigdefault(&attributes, &all)
    posix_spawnattr_setpgroup(&attributes, 0)
    let flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | (ownGroup ? POSIX_SPAWN_SETPGROUP : 0)
    posix_spawnattr_setflags(&attributes, Int16(flags))
    return body(&attributes)
}
