/// Finds things by what they are, where they are kept elsewhere and known by numbers: a hash table of four bytes a slot.
/// Who uses it says which two things are equal, and what the hash of one is.
struct NumberTable {
    private static let free = UInt32.max
    private var slots: [UInt32]
    private var count = 0

    /// `minimumCapacity`: so many can be added before it grows.
    init(minimumCapacity: Int = 0) {
        var size = 16
        while size < 2 * minimumCapacity { size *= 2 }
        slots = Array(repeating: Self.free, count: size)
    }

    /// The first number with this hash that is what is searched for.
    func find(hash: Int, where isEqual: (Int) -> Bool) -> Int? {
        var slot = hash & (slots.count - 1)
        while slots[slot] != Self.free {
            if isEqual(Int(slots[slot])) { return Int(slots[slot]) }
            slot = (slot + 1) & (slots.count - 1)
        }
        return nil
    }

    /// Lets `number` take the place of `old`, which has the same hash.
    mutating func replace(_ old: Int, by number: Int, hash: Int) {
        var slot = hash & (slots.count - 1)
        while slots[slot] != Self.free, slots[slot] != UInt32(old) { slot = (slot + 1) & (slots.count - 1) }
        if slots[slot] != Self.free { slots[slot] = UInt32(number) }
    }

    /// `number`: less than 2^32 - 1. `hashOf` gives the hash of any number that was added.
    mutating func add(_ number: Int, hash: Int, hashOf: (Int) -> Int) {
        if 2 * (count + 1) > slots.count {
            let old = slots
            slots = Array(repeating: Self.free, count: 2 * old.count)
            for number in old where number != Self.free { put(number, hash: hashOf(Int(number))) }
        }
        put(UInt32(number), hash: hash)
        count += 1
    }

    private mutating func put(_ number: UInt32, hash: Int) {
        var slot = hash & (slots.count - 1)
        while slots[slot] != Self.free { slot = (slot + 1) & (slots.count - 1) }
        slots[slot] = number
    }
}
