package signature

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// dearmor decodes one armoured block, OpenPGP or SSH. It is strict where the usual
// decoders are lenient: nothing but blank lines around the block, no stray lines in
// it, and a checksum that is there must be right. What a lenient decoder skips is
// where unsigned content hides.
func dearmor(text, kind string) ([]byte, error) {
	if strings.Contains(text, "\r") {
		return nil, errors.New("carriage return in the armour: it was changed after it was made")
	}

	lines := strings.Split(text, "\n")
	if lines[0] != "-----BEGIN "+kind+"-----" {
		return nil, fmt.Errorf("the first line is not the beginning of a %s", kind)
	}

	lines = lines[1:]

	isOpenPGP := strings.HasPrefix(kind, "PGP ")
	if isOpenPGP {
		var err error
		if lines, err = skipArmorHeaders(lines); err != nil {
			return nil, err
		}
	}

	end := -1

	for i, line := range lines {
		if line == "-----END "+kind+"-----" {
			end = i

			break
		}
	}

	if end < 0 {
		return nil, errors.New("the last line of the armour is missing")
	}

	for _, line := range lines[end+1:] {
		if strings.TrimSpace(line) != "" {
			return nil, fmt.Errorf("trailing garbage after the armour: %s", clip(line))
		}
	}

	lines = lines[:end]

	sum := ""
	if n := len(lines); isOpenPGP && n > 0 && len(lines[n-1]) == 5 && lines[n-1][0] == '=' {
		sum, lines = lines[n-1][1:], lines[:n-1]
	}

	data, err := base64.StdEncoding.Strict().DecodeString(strings.Join(lines, ""))
	if err != nil {
		return nil, fmt.Errorf("the armour is damaged: %w", err)
	}

	if sum != "" && sum != checksum(data) {
		return nil, errors.New("the checksum of the armour is wrong")
	}

	return data, nil
}

// skipArmorHeaders skips "Version: …" and the like, up to the empty line.
func skipArmorHeaders(lines []string) ([]string, error) {
	for i, line := range lines {
		if strings.TrimSpace(line) == "" {
			return lines[i+1:], nil
		}

		if !strings.Contains(line, ": ") && !strings.HasSuffix(line, ":") {
			break
		}
	}

	return nil, errors.New("no empty line after the headers of the armour")
}

// checksum is the CRC-24 of RFC 4880, section 6.1, as it stands in armour.
func checksum(data []byte) string {
	crc := uint32(0xB704CE)

	for _, b := range data {
		crc ^= uint32(b) << 16

		for range 8 {
			crc <<= 1
			if crc&0x1000000 != 0 {
				crc ^= 0x1864CFB
			}
		}
	}

	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc&0xFFFFFF)[1:])
}
