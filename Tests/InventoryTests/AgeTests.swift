import Testing

@testable import Inventory

@Suite struct AgeTests {
    @Test(
        "an age is a whole number and a unit",
        arguments: [
            ("45m", 2700), ("12h", 43_200), ("30d", 2_592_000), ("2w", 1_209_600), ("2W", 1_209_600), ("0d", 0),
            ("007h", 25_200),
        ] as [(String, Int64)])
    func reads(text: String, seconds: Int64) { #expect(Age(text)?.seconds == seconds) }

    @Test(
        "anything else is none",
        arguments: [
            "", "d", "12", "1.5h", "-1d", "+1d", "1 d", "1dd", "1y", "1s", "٣d", "9999999999d", "999999999w",
            "1d\u{301}",
        ])
    func refuses(text: String) { #expect(Age(text) == nil) }

    @Test(
        "an age is shown in the largest unit of which there are two",
        arguments: [
            (0, "0m"), (-5, "0m"), (119, "1m"), (7199, "119m"), (7200, "2h"), (86_400, "24h"), (172_800, "2d"),
            (1_123_200, "13d"), (2_592_000, "4w"),
        ] as [(Int64, String)])
    func shows(seconds: Int64, text: String) { #expect(Age(seconds: seconds).description == text) }
}
