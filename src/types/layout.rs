//! The check of a struct's layout. It runs while a program is compiled.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a panic here is an error of the compiler")]

/// Refuses a struct with padding, or of too large an alignment, while the program is compiled. For
/// the derive: `fields` are the name, the offset and the size of each field, in order.
///
/// # Panics
///
/// With a message that says what to do.
#[track_caller]
pub const fn check_layout(name: &str, fields: &[(&str, usize, usize)], size: usize, align: usize) {
    let mut end = 0;
    let mut index = 0;
    while index < fields.len() {
        let (field, offset, length) = fields[index];
        if offset != end {
            panic!("{}", padding(name, offset - end, "before", field).as_str());
        }
        end = offset + length;
        index += 1;
    }
    if size != end {
        panic!("{}", padding(name, size - end, "behind", fields[fields.len() - 1].0).as_str());
    }
    if align > MAX_ALIGN {
        let text = Text::new().add("the alignment of `").add(name).add("` is ").add_number(align);
        panic!("{}", text.add(" bytes: at most 128 are accepted").as_str());
    }
}

/// The largest alignment, in bytes, of a value in a region.
const MAX_ALIGN: usize = 128;

const fn padding(name: &str, bytes: usize, place: &str, field: &str) -> Text {
    let text = Text::new().add("padding in `").add(name).add("`: ").add_number(bytes).add(" bytes ").add(place);
    let text = text.add(" the field `").add(field).add("`: put a field `reserved: [u8; ").add_number(bytes);
    text.add("]` there, or the fields of larger types first")
}

/// A text that is made while the program is compiled.
struct Text {
    bytes: [u8; 256],
    length: usize,
}

impl Text {
    const fn new() -> Self {
        Self { bytes: [0; 256], length: 0 }
    }

    /// Adds as much as there is room for.
    const fn add(mut self, text: &str) -> Self {
        let mut index = 0;
        while index < text.len() && self.length < self.bytes.len() {
            self.bytes[self.length] = text.as_bytes()[index];
            self.length += 1;
            index += 1;
        }
        self
    }

    const fn add_number(self, number: usize) -> Self {
        let text = if number < 10 { self } else { self.add_number(number / 10) };
        let digit = [b'0' + (number % 10) as u8];
        match std::str::from_utf8(&digit) {
            Ok(digit) => text.add(digit),
            Err(_) => text,
        }
    }

    const fn as_str(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.length).0) {
            Ok(text) => text,
            Err(_) => "padding",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::check_layout;

    fn message(fields: &'static [(&str, usize, usize)], size: usize, align: usize) -> String {
        let panic = catch_unwind(|| check_layout("Order", fields, size, align)).unwrap_err();
        panic.downcast_ref::<String>().unwrap().clone()
    }

    #[test]
    fn layout_with_padding_is_refused_and_says_where() {
        check_layout("Empty", &[], 0, 1);
        check_layout("Order", &[("price", 0, 8), ("side", 8, 1), ("reserved", 9, 7)], 16, 8);
        assert_eq!(
            message(&[("side", 0, 1), ("price", 8, 8)], 16, 8),
            "padding in `Order`: 7 bytes before the field `price`: put a field `reserved: [u8; 7]` there, \
             or the fields of larger types first"
        );
        let behind = message(&[("price", 0, 8), ("side", 8, 1)], 128, 128);
        assert!(behind.starts_with("padding in `Order`: 119 bytes behind the field `side`: put"), "{behind}");
        let large = message(&[("page", 0, 4096)], 4096, 4096);
        assert_eq!(large, "the alignment of `Order` is 4096 bytes: at most 128 are accepted");
    }
}
