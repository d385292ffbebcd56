/// What `mcfs status --json` prints.
package struct Status: Codable, Sendable {
    package var cache: CacheStatus
    package var jobs: [JobStatus]
    package var mounts: [MountStatus]
    package var version: String

    package init(cache: CacheStatus, mounts: [MountStatus], jobs: [JobStatus], version: String) {
        self.cache = cache
        self.mounts = mounts
        self.jobs = jobs
        self.version = version
    }
}

package struct CacheStatus: Codable, Sendable {
    package var directory: String
    /// nil, also of `bytesPinned`: a daemon that has just started has not counted yet what is local.
    package var bytesUsed: UInt64?
    package var bytesMax: UInt64
    package var bytesPinned: UInt64?
    /// What of it no digest can tell to be right; nil: nobody has counted it.
    package var unverifiable: Unverifiable?
    /// What went wrong lately, a sentence each, newest last.
    package var problems: [String]

    package init(
        directory: String, bytesUsed: UInt64? = 0, bytesMax: UInt64 = 0, bytesPinned: UInt64? = 0,
        unverifiable: Unverifiable? = nil, problems: [String] = []
    ) {
        self.unverifiable = unverifiable
        self.problems = problems
        self.directory = directory
        self.bytesUsed = bytesUsed
        self.bytesMax = bytesMax
        self.bytesPinned = bytesPinned
    }

    /// Written out because what is not known stands there as null.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(directory, forKey: .directory)
        try container.encode(bytesUsed, forKey: .bytesUsed)
        try container.encode(bytesMax, forKey: .bytesMax)
        try container.encode(bytesPinned, forKey: .bytesPinned)
        try container.encode(unverifiable, forKey: .unverifiable)
        try container.encode(problems, forKey: .problems)
    }
}

/// Local files that no digest can tell to be right.
package struct Unverifiable: Codable, Sendable, Equatable {
    package var files: Int
    /// That are local.
    package var bytes: UInt64

    package init(files: Int = 0, bytes: UInt64 = 0) {
        self.files = files
        self.bytes = bytes
    }
}

/// Long work that the daemon does now.
package struct JobStatus: Codable, Sendable {
    /// A number that no other job of this daemon has or had.
    package var id: Int
    package var kind: String
    package var target: String
    package var progress: Progress
    /// Since it began.
    package var seconds: Double

    package init(id: Int, kind: String, target: String, progress: Progress, seconds: Double) {
        self.id = id
        self.seconds = seconds
        self.kind = kind
        self.target = target
        self.progress = progress
    }
}

package struct MountStatus: Codable, Sendable {
    package enum State: String, Codable, Sendable {
        case ready
        /// An origin does not answer, requests to it are repeated, or the last one failed.
        case degraded
        /// Mounted without its origins: only what is local can be read.
        case offline
        /// Not at its mountpoint any more; goes on for those who still have it.
        case detached
        /// Its daemon ended, and nobody serves it.
        case dead
    }

    package struct Reference: Codable, Sendable {
        package var reference: String
        package var resolved: String
        package var entries: Int
        package var bytesTotal: UInt64
        /// nil, also of `unverifiable`: a daemon that has just started has not counted yet what is local.
        package var bytesLocal: UInt64?
        package var unverifiable: Unverifiable?

        package init(
            reference: String, resolved: String, entries: Int, bytesTotal: UInt64, bytesLocal: UInt64?,
            unverifiable: Unverifiable? = nil
        ) {
            self.unverifiable = unverifiable
            self.reference = reference
            self.resolved = resolved
            self.entries = entries
            self.bytesTotal = bytesTotal
            self.bytesLocal = bytesLocal
        }

        /// Written out because what is not known stands there as null.
        package func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(reference, forKey: .reference)
            try container.encode(resolved, forKey: .resolved)
            try container.encode(entries, forKey: .entries)
            try container.encode(bytesTotal, forKey: .bytesTotal)
            try container.encode(bytesLocal, forKey: .bytesLocal)
            try container.encode(unverifiable, forKey: .unverifiable)
        }
    }

    /// What of the tree shows, and how engines use it.
    package struct View: Codable, Sendable {
        /// A name that an engine looked up and that the mount does not have.
        package struct Missed: Codable, Sendable {
            package var path: String
            /// Seconds since 1970.
            package var time: Int64

            package init(path: String, time: Int64) {
                self.path = path
                self.time = time
            }
        }

        /// What kernels are judged by, such as `sm_90`; empty: everything shows.
        package var gpu: [String] = []
        package var hiddenEntries = 0
        /// Kernels in the tree.
        package var kernels = 0
        /// Of these, so many were not judged yet, and show.
        package var undecided = 0
        /// How often an engine opened a kernel.
        package var kernelHits: UInt64 = 0
        /// How often a name of a kernel was looked up in vain.
        package var kernelMisses: UInt64 = 0
        /// The latest of them, newest first; at most 20.
        package var missed: [Missed] = []
        package init() {}
    }

    package struct Reads: Codable, Sendable {
        package var count: UInt64 = 0
        package var bytes: UInt64 = 0
        package var hits: UInt64 = 0
        package var misses: UInt64 = 0
        package var errors: UInt64 = 0
        package init() {}
    }

    package struct OriginTraffic: Codable, Sendable {
        package var requests: UInt64 = 0
        package var bytes: UInt64 = 0
        package var retries: UInt64 = 0
        /// Of these, for references and trees: manifests, listings, layers that were indexed.
        package var treeRequests: UInt64 = 0
        package var treeBytes: UInt64 = 0
        package var errors: UInt64 = 0
        package init() {}
    }

    /// A read that waits for bytes.
    package struct WaitingRead: Codable, Sendable {
        /// From the mountpoint.
        package var path: String
        /// Who waits; nil: a process of another PID namespace.
        package var pid: Int32?
        package var seconds: Double

        package init(path: String, pid: Int32?, seconds: Double) {
            self.path = path
            self.pid = pid
            self.seconds = seconds
        }

        /// Written out because `pid` stands there as null.
        package func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(path, forKey: .path)
            try container.encode(pid, forKey: .pid)
            try container.encode(seconds, forKey: .seconds)
        }
    }

    package var mountpoint: String
    package var state: State
    package var readOnly: Bool
    /// The writable directory; null for a mount that is read-only.
    package var upper: String?
    /// What the upper occupies on its disk, in bytes.
    package var upperBytes: UInt64?
    package var references: [Reference]
    package var view: View
    package var reads: Reads
    package var origin: OriginTraffic
    package var passthrough: Bool
    /// What is wrong now, a sentence each.
    package var problems: [String]
    /// Of a mount that is detached: processes that still have it, one for each mount namespace, and those with open files.
    package var heldBy: [Int32]?
    /// Reads that have waited for a second and longer, longest first; at most 100.
    package var waiting: [WaitingRead]

    package init(
        mountpoint: String, state: State, readOnly: Bool? = nil, upper: String?, upperBytes: UInt64?,
        references: [Reference], reads: Reads,
        origin: OriginTraffic,
        passthrough: Bool, problems: [String], waiting: [WaitingRead] = [], view: View = View()
    ) {
        self.waiting = waiting
        self.view = view
        self.mountpoint = mountpoint
        self.state = state
        self.readOnly = readOnly ?? (upper == nil)
        self.upper = upper
        self.upperBytes = upperBytes
        self.references = references
        self.reads = reads
        self.origin = origin
        self.passthrough = passthrough
        self.problems = problems
    }

    /// Written out because `upper` stands there as null, where the synthesised form leaves the key away.
    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(mountpoint, forKey: .mountpoint)
        try container.encode(state, forKey: .state)
        try container.encode(readOnly, forKey: .readOnly)
        try container.encode(upper, forKey: .upper)
        try container.encode(upperBytes, forKey: .upperBytes)
        try container.encode(references, forKey: .references)
        try container.encode(view, forKey: .view)
        try container.encode(reads, forKey: .reads)
        try container.encode(origin, forKey: .origin)
        try container.encode(passthrough, forKey: .passthrough)
        try container.encode(problems, forKey: .problems)
        try container.encodeIfPresent(heldBy, forKey: .heldBy)
        try container.encode(waiting, forKey: .waiting)
    }
}
