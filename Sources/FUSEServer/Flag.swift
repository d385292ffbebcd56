internal import Synchronization

/// A flag that closures can share.
final class Flag: Sendable {
    private let value: Atomic<Bool>

    init(_ value: Bool = false) { self.value = Atomic(value) }

    var isSet: Bool { value.load(ordering: .acquiring) }
    func set() { value.store(true, ordering: .releasing) }
    func clear() { value.store(false, ordering: .releasing) }
}
