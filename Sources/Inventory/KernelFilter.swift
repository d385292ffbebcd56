package import GPUCompat
internal import Glibc
package import MCFSCore

/// Which kernels are meant. What is nil is not asked for.
package struct KernelFilter: Sendable {
    /// The kernel's name, or a glob for it: `*`, `?`, `[a-z]`.
    package var name: String?
    package var backend: KernelBackend?
    package var arch: Architecture?
    package var olderThan: Age?
    package var youngerThan: Age?
    package var hitsBelow: UInt64?
    package var hitsAbove: UInt64?
    /// Only what is in this folder or reference, or is it.
    package var place: String?

    package init(
        name: String? = nil, backend: KernelBackend? = nil, arch: Architecture? = nil, olderThan: Age? = nil,
        youngerThan: Age? = nil, hitsBelow: UInt64? = nil, hitsAbove: UInt64? = nil, place: String? = nil
    ) {
        self.name = name
        self.backend = backend
        self.arch = arch
        self.olderThan = olderThan
        self.youngerThan = youngerThan
        self.hitsBelow = hitsBelow
        self.hitsAbove = hitsAbove
        self.place = place
    }

    /// - Throws: `usage` where nothing could fulfil it.
    package func check() throws(MCFSError) {
        if let olderThan, let youngerThan, olderThan >= youngerThan {
            throw MCFSError(.usage, "nothing is older than \(olderThan) and younger than \(youngerThan)")
        }
        let least = hitsAbove.map { $0 == .max ? $0 : $0 + 1 } ?? 0
        if let hitsBelow, hitsBelow <= least {
            throw MCFSError(
                .usage, "nothing has fewer than \(hitsBelow) hits\(hitsAbove.map { " and more than \($0)" } ?? "")")
        }
    }

    /// - Parameter now: seconds since 1970.
    package func matches(_ kernel: IndexedKernel, now: Int64) -> Bool {
        let age = kernel.age(at: now)
        if let olderThan, age <= olderThan { return false }
        if let youngerThan, age >= youngerThan { return false }
        if let hitsBelow, kernel.hits >= hitsBelow { return false }
        if let hitsAbove, kernel.hits <= hitsAbove { return false }
        if let backend, kernel.backend.flatMap(KernelBackend.init(name:)) != backend { return false }
        if let arch, !Self.matches(arch, kernel.arch) { return false }
        if let name, !(kernel.name.map { $0 == name || fnmatch(name, $0, 0) == 0 } ?? false) { return false }
        return place.map(kernel.lies) ?? true
    }

    /// What of a kernel fulfils what is asked for, as a user is told why it goes.
    ///
    /// - Parameter now: seconds since 1970.
    func reasons(_ kernel: IndexedKernel, now: Int64) -> [String] {
        var reasons: [String] = []
        if let name { reasons.append("its name fits \(name)") }
        if let target = arch != nil ? kernel.arch : backend != nil ? kernel.backend : nil {
            reasons.append("built for \(target)")
        }
        if olderThan != nil || youngerThan != nil {
            reasons.append("changed \(kernel.age(at: now)) ago")
        }
        if hitsBelow != nil || hitsAbove != nil {
            reasons.append("\(kernel.hits) hit\(kernel.hits == 1 ? "" : "s")")
        }
        return reasons
    }

    private static func matches(_ wanted: Architecture, _ archs: String?) -> Bool {
        guard let archs else { return false }
        let wanted = wanted.inventoryText
        return archs.split(separator: ",").contains { $0 == wanted }
    }
}

extension Architecture {
    /// As metadata has it: `90`, `gfx942`.
    package var inventoryText: String {
        switch self {
        case .cuda(let architecture): "\(architecture.number)\(architecture.suffix.rawValue)"
        case .gfx(let architecture): architecture.description
        }
    }
}

extension [UInt8] {
    /// Both are paths without a `/` at their end; `/` holds everything.
    func isAtOrBelow(_ place: [UInt8]) -> Bool {
        if place == [UInt8(ascii: "/")] { return true }
        return starts(with: place) && (count == place.count || self[place.count] == UInt8(ascii: "/"))
    }
}
