/// Why metadata tells nothing: the end of a sentence that begins with "its metadata".
struct MetadataFlaw: Error, Equatable {
    var text: String

    init(_ text: String) { self.text = text }
}
