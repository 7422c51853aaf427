package signature

import (
	"encoding/binary"
	"fmt"
)

// checkPacket makes sure that data is one version 4 signature packet and nothing
// else, before go-crypto sees it. Two signatures leave open which one counts (git
// refuses them as well). Signatures of version 6, and signatures inside of
// signatures, state lengths that go-crypto allocates before it reads: up to 4 GiB.
// Subpackets that belong to keys only are refused as well: go-crypto 1.4.1 panics on
// an empty one that says whether a certification is exportable.
func checkPacket(data []byte) error {
	bad := fmt.Errorf("%w: it is not exactly one OpenPGP signature packet: sign again", ErrBadSignature)

	body, rest, ok := cutPacket(data)
	if !ok || len(rest) > 0 || len(body) < 6 {
		return bad
	}

	if body[0] != 4 {
		return fmt.Errorf("%w: an OpenPGP signature of version %d: sign with a version 4 key", ErrUnsupported, body[0])
	}

	body = body[4:] // version, type, key algorithm, hash algorithm

	for range 2 { // the hashed and the unhashed subpackets
		if len(body) < 2 || len(body)-2 < int(binary.BigEndian.Uint16(body)) {
			return bad
		}

		n := 2 + int(binary.BigEndian.Uint16(body))
		area := body[2:n]
		body = body[n:]

		for len(area) > 0 {
			var sub []byte
			if sub, area, ok = cutLength(area, 254); !ok || len(sub) == 0 {
				return bad
			}

			const exportable, embeddedSignature = 4, 32
			if kind := sub[0] & 0x7f; kind == exportable || kind == embeddedSignature {
				return bad
			}
		}
	}

	return nil
}

// cutPacket splits off a signature packet, with a header of the old or the new form.
func cutPacket(data []byte) (body, rest []byte, ok bool) {
	if len(data) < 2 {
		return nil, nil, false
	}

	tag, data := data[0], data[1:]

	const newForm, oldForm = 0xC2, 0x88 // tag 2, signature; the old form has the kind of length in two bits
	switch {
	case tag == newForm:
		return cutLength(data, 223) // 224 to 254 are partial lengths
	case tag&^0x03 == oldForm && tag&0x03 < 3:
		size := 1 << (tag & 0x03)
		if len(data) < size {
			return nil, nil, false
		}

		n := 0
		for _, b := range data[:size] {
			n = n<<8 | int(b)
		}

		data = data[size:]
		if n < 0 || n > len(data) {
			return nil, nil, false
		}

		return data[:n], data[n:], true
	}

	return nil, nil, false
}

// cutLength splits off what a length of one, two or five bytes announces. A first
// byte above maxTwo means five, if it is 255, or is not allowed.
func cutLength(data []byte, maxTwo byte) (body, rest []byte, ok bool) {
	var n int

	switch first := data[0]; {
	case first < 192:
		n, data = int(first), data[1:]
	case first <= maxTwo && len(data) >= 2:
		n, data = (int(first)-192)<<8+int(data[1])+192, data[2:]
	case first == 255 && len(data) >= 5:
		n, data = int(binary.BigEndian.Uint32(data[1:])), data[5:]
	default:
		return nil, nil, false
	}

	if n < 0 || n > len(data) {
		return nil, nil, false
	}

	return data[:n], data[n:], true
}

// recovered turns a panic of go-crypto into an error, so that a crafted commit or key
// file refuses a revision and does not end the process.
func recovered(err *error, kind error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: the OpenPGP data is damaged or crafted (%s): make it again", kind, clip(fmt.Sprint(p)))
	}
}
