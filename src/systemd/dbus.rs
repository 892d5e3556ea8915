//! D-Bus client, the little of it that asking for a property takes: calls with numbers and texts, answers with those
//! and structures of them. Bytes in, bytes out.

/// A value of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    U32(u32),
    /// A string or the path of an object.
    Text(String),
}

/// A call of a method.
pub(super) struct Call<'a> {
    pub(super) serial: u32,
    pub(super) to: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) arguments: &'a [Value],
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The call that it answers.
    pub(super) reply_to: Option<u32>,
    /// What it holds, or the name of an error. Variants and structures are opened.
    pub(super) outcome: Result<Vec<Value>, String>,
}

impl Call<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (mut body, mut signature) = (Vec::new(), String::new());
        for argument in self.arguments {
            match argument {
                Value::U32(number) => {
                    signature.push('u');
                    put_u32(&mut body, *number);
                }
                Value::Text(text) => {
                    signature.push('s');
                    put_text(&mut body, text);
                }
            }
        }
        let mut out = vec![b'l', METHOD_CALL, 0, 1];
        put_u32(&mut out, length(body.len()));
        put_u32(&mut out, self.serial);
        // The fields: an array of structures of a code and a variant, filled in below.
        put_u32(&mut out, 0);
        let texts = [
            (PATH, 'o', self.path),
            (DESTINATION, 's', self.to),
            (INTERFACE, 's', self.interface),
            (MEMBER, 's', self.member),
        ];
        for (code, kind, text) in texts {
            pad(&mut out, 8);
            out.extend([code, 1, kind as u8, 0]);
            put_text(&mut out, text);
        }
        if !signature.is_empty() {
            pad(&mut out, 8);
            out.extend([SIGNATURE, 1, b'g', 0, u8::try_from(signature.len()).unwrap_or(0)]);
            out.extend(signature.as_bytes());
            out.push(0);
        }
        let fields = length(out.len() - HEAD_BYTES);
        out[12..16].copy_from_slice(&fields.to_le_bytes());
        pad(&mut out, 8);
        out.extend(body);
        out
    }
}

/// How much follows the head: fields, padding and body. `None`: it is no message, or too large a one.
pub(super) fn rest_bytes(head: &[u8; HEAD_BYTES]) -> Option<usize> {
    let body = usize::try_from(u32_at(head, 4)?).ok()?;
    let fields = usize::try_from(u32_at(head, 12)?).ok()?;
    let rest = fields.checked_next_multiple_of(8)?.checked_add(body)?;
    (head[0] == b'l' && rest <= MESSAGE_BYTES_MAX).then_some(rest)
}

/// Reads a message of which `rest` follows the head.
pub(super) fn decode(head: &[u8; HEAD_BYTES], rest: &[u8]) -> Option<Message> {
    let fields_end = usize::try_from(u32_at(head, 12)?).ok()?;
    let mut fields = Reader { bytes: rest.get(..fields_end)?, at: 0 };
    let (mut reply_to, mut signature, mut error) = (None, String::new(), String::new());
    while fields.at < fields.bytes.len() {
        fields.align(8);
        let code = fields.byte()?;
        let kind = fields.signature()?;
        match (code, &*kind) {
            (SIGNATURE, "g") => signature = fields.signature()?,
            (_, "u") => {
                let number = fields.number()?;
                if code == REPLY_SERIAL {
                    reply_to = Some(number);
                }
            }
            (_, "s" | "o") => {
                let text = fields.text()?;
                if code == ERROR_NAME {
                    error = text;
                }
            }
            (_, "g") => drop(fields.signature()?),
            _ => return None,
        }
    }
    let body = rest.get(fields_end.next_multiple_of(8)..)?;
    let outcome = match head[1] {
        ERROR => Err(error),
        METHOD_RETURN => {
            let (mut values, mut reader) = (Vec::new(), Reader { bytes: body, at: 0 });
            reader.values(&signature, &mut values, 0)?;
            Ok(values)
        }
        _ => Ok(Vec::new()),
    };
    Some(Message { reply_to, outcome })
}

/// Any message, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return };
    if let Some(length) = rest_bytes(head) {
        assert!(length <= MESSAGE_BYTES_MAX);
        let _ = decode(head, &rest[..length.min(rest.len())]);
    }
}

struct Reader<'a> {
    /// They begin at a multiple of eight in the message.
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.align(4);
        let number = u32_at(self.bytes, self.at)?;
        self.at += 4;
        Some(number)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        self.string(length)
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        self.string(length)
    }

    fn string(&mut self, length: usize) -> Option<String> {
        let end = self.at.checked_add(length)?;
        let text = std::str::from_utf8(self.bytes.get(self.at..end)?).ok()?.to_owned();
        self.at = end + 1;
        Some(text)
    }

    /// Values of this signature. What is neither a number of 32 bits, nor a text, nor made of them, is not understood.
    fn values(&mut self, signature: &str, into: &mut Vec<Value>, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        for kind in signature.chars() {
            match kind {
                'u' => into.push(Value::U32(self.number()?)),
                's' | 'o' => into.push(Value::Text(self.text()?)),
                'v' => {
                    let inner = self.signature()?;
                    self.values(&inner, into, depth + 1)?;
                }
                '(' => self.align(8),
                ')' => {}
                _ => return None,
            }
        }
        Some(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    pad(out, 4);
    out.extend(number.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_u32(out, length(text.len()));
    out.extend(text.as_bytes());
    out.push(0);
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

/// Names and paths of our own: far below 2^32.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Up to the length of the fields.
pub(super) const HEAD_BYTES: usize = 16;
const MESSAGE_BYTES_MAX: usize = 1 << 16;
const DEPTH_MAX: usize = 4;
const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer to call 7 with this signature and body.
    fn answer(signature: &str, body: &[u8]) -> ([u8; HEAD_BYTES], Vec<u8>) {
        let mut fields = vec![REPLY_SERIAL, 1, b'u', 0, 7, 0, 0, 0, SIGNATURE, 1, b'g', 0];
        fields.push(u8::try_from(signature.len()).unwrap());
        fields.extend(signature.as_bytes());
        fields.push(0);
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&[b'l', METHOD_RETURN, 1, 1]);
        head[4..8].copy_from_slice(&length(body.len()).to_le_bytes());
        head[12..16].copy_from_slice(&length(fields.len()).to_le_bytes());
        pad(&mut fields, 8);
        fields.extend(body);
        (head, fields)
    }

    #[test]
    fn a_job_is_read_out_of_its_variant() {
        // As the bus sends the property `Job`: signature `(uo)`, aligned to eight.
        let mut body = vec![4, b'(', b'u', b'o', b')', 0, 0, 0];
        put_u32(&mut body, 42);
        put_text(&mut body, "/org/freedesktop/systemd1/job/42");
        let (head, rest) = answer("v", &body);
        assert_eq!(rest_bytes(&head), Some(rest.len()));
        let path = Value::Text("/org/freedesktop/systemd1/job/42".into());
        let message = decode(&head, &rest).unwrap();
        assert_eq!(message, Message { reply_to: Some(7), outcome: Ok(vec![Value::U32(42), path]) });
    }

    #[test]
    fn a_call_has_the_form_that_the_bus_wants() {
        let arguments = [Value::U32(77), Value::Text("a".into())];
        let call =
            Call { serial: 3, to: "d.e", path: "/p", interface: "i.f", member: "M", arguments: &arguments };
        let bytes = call.encode();
        let head: [u8; HEAD_BYTES] = *bytes.first_chunk().unwrap();
        assert_eq!(&head[..4], [b'l', 1, 0, 1]);
        assert_eq!((u32_at(&head, 4), u32_at(&head, 8)), (Some(10), Some(3)), "body and serial");
        assert_eq!(rest_bytes(&head), Some(bytes.len() - HEAD_BYTES));
        assert_eq!(&bytes[bytes.len() - 10..], [77, 0, 0, 0, 1, 0, 0, 0, b'a', 0]);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(head in any::<[u8; HEAD_BYTES]>(), rest in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (rest_bytes(&head), decode(&head, &rest));
        }

        #[test]
        fn a_damaged_answer_is_read_or_refused(at in 0_usize..60, byte in any::<u8>()) {
            let (head, mut rest) = answer("v", &[1, b's', 0, 0, 3, 0, 0, 0, b'a', b'b', b'c', 0]);
            let at = at % rest.len();
            rest[at] = byte;
            let _ = decode(&head, &rest);
        }
    }
}
