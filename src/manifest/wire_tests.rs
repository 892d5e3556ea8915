//! Records that grew: read by builds before and after, and what is refused.

use super::*;

travels! {
    /// Before.
    struct Small {
        /// A number.
        pub number: u32,
        /// A text.
        pub text: String,
    }
}

travels! {
    /// The same, later.
    struct Large {
        /// A number.
        pub number: u32,
        /// A text.
        pub text: String,
        /// Added first.
        pub added: Option<u16> = Some(7),
        /// Added later.
        pub word: Word = "keep".into(),
    }
}

fn small(number: u32) -> Small {
    Small { number, text: "text".into() }
}

fn large(number: u32) -> Large {
    Large { number, text: "text".into(), added: None, word: "close".into() }
}

/// The bytes of a value, and its words.
fn bytes(value: &impl Wire) -> (Vec<u8>, Vec<Word>) {
    let mut out = Writer::default();
    value.put(&mut out);
    let words = out.words().into_iter().map(Word::from).collect();
    (out.into_bytes(), words)
}

fn read<T: Wire>((bytes, words): &(Vec<u8>, Vec<Word>)) -> Result<T, Broken> {
    let mut reader = Reader::with_words(bytes, words);
    let value = T::take(&mut reader)?;
    if reader.is_empty() { Ok(value) } else { Err(Broken) }
}

#[test]
fn what_is_not_known_is_skipped_and_what_is_not_there_is_as_it_was_before() {
    let later = bytes(&vec![(large(1), 8_u8), (large(2), 9)]);
    assert_eq!(read(&later), Ok(vec![(small(1), 8_u8), (small(2), 9)]));
    let before = bytes(&vec![(small(1), 8_u8), (small(2), 9)]);
    let filled = |number| Large { added: Some(7), word: "keep".into(), ..large(number) };
    assert_eq!(read(&before), Ok(vec![(filled(1), 8_u8), (filled(2), 9)]));
    assert_eq!(read(&later), Ok(vec![(large(1), 8_u8), (large(2), 9)]));
}

#[test]
fn a_record_ends_between_two_fields_or_is_broken() {
    let (mut whole, words) = bytes(&large(1));
    // The length, 4; the number, 4; the text, 8; what was added first, 1; a word, 4.
    assert_eq!(whole.len(), 21);
    for (length, is_whole) in (0..=17).map(|length| (length, matches!(length, 12 | 13 | 17))) {
        whole[0] = length;
        let cut = (whole[..4 + usize::from(length)].to_vec(), words.clone());
        assert_eq!(read::<Large>(&cut).is_ok(), is_whole, "{length} bytes");
    }
    whole[0] = 18;
    assert_eq!(read::<Large>(&(whole, words)), Err(Broken), "longer than what is there");
}

#[test]
fn a_word_is_written_once_and_is_one_of_those_that_came() {
    let (bytes, words) = bytes(&vec![Word::own("keep"), String::from("new").into(), "keep".into()]);
    assert_eq!((bytes.len(), &words), (4 + 3 * 4, &vec!["keep".into(), "new".into()]));
    assert_eq!(read(&(bytes.clone(), words)), Ok(vec![Word::own("keep"), "new".into(), "keep".into()]));
    assert_eq!(read::<Vec<Word>>(&(bytes, vec!["keep".into()])), Err(Broken), "it has no number 1");
}
