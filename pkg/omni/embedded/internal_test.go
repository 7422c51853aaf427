package embedded

import (
	"bytes"
	"context"
	"net"
	"strings"
	"testing"

	"github.com/siderolabs/go-api-signature/pkg/message"
	"google.golang.org/grpc/metadata"
)

// FuzzSignatureHeader: no header makes the server panic or lets a stranger in.
func FuzzSignatureHeader(f *testing.F) {
	accounts, err := newAccounts(defaultAccounts())
	if err != nil {
		f.Fatal(err)
	}

	fingerprint := accounts.named(AccountAdmin).key.Fingerprint()

	for _, header := range []string{"", " ", "siderov1", "siderov1  ", "siderov1 admin " + fingerprint + " AAAA", "siderov1 admin x %", strings.Repeat(" ", 100)} {
		f.Add(header, "1700000000", `{"method":"/m"}`)
	}

	f.Fuzz(func(t *testing.T, header, timestamp, payload string) {
		md := metadata.Pairs(message.SignatureHeaderKey, header, message.TimestampHeaderKey, timestamp, message.PayloadHeaderKey, payload)

		if _, err := accounts.verify(md, "/m"); err == nil {
			t.Errorf("accepted %q", header)
		}
	})
}

func FuzzBookmark(f *testing.F) {
	f.Add(uint16(1), int64(0), []byte("garbage"))
	f.Add(uint16(65535), int64(1<<bookmarkPosition-1), make([]byte, bookmarkSize))

	f.Fuzz(func(t *testing.T, epoch uint16, position int64, garbage []byte) {
		position &= 1<<bookmarkPosition - 1

		if got, ok := decodeBookmark(epoch, encodeBookmark(epoch, position)); !ok || got != position {
			t.Errorf("%d in epoch %d came back as %d, %t", position, epoch, got, ok)
		}

		if _, ok := decodeBookmark(epoch+1, encodeBookmark(epoch, position)); ok {
			t.Errorf("a bookmark of epoch %d is good in the next", epoch)
		}

		if got, ok := decodeBookmark(epoch, garbage); ok && !bytes.Equal(encodeBookmark(epoch, got), garbage) {
			t.Errorf("%x is another bookmark than it says", garbage)
		}
	})
}

func TestNewRefusesWhatCannotBe(t *testing.T) {
	for name, config := range map[string]Config{
		"two accounts of a name": {Accounts: []Account{{Name: AccountReader}}},
		"two machines of an ID":  {Machines: []Machine{{ID: "a"}, {ID: "a"}}},
		"no such address":        {Listen: "127.0.0.1:99999"},
	} {
		if _, err := New(config); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestRunOnce: Run returns when its context ends, closes what New opened, and cannot be had twice.
func TestRunOnce(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()

	if err = s.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}

	if err = s.Run(ctx); err == nil {
		t.Error("Run runs twice")
	}

	if err = s.Restart(ctx, RestartOptions{}); err == nil {
		t.Error("a server that does not run was restarted")
	}

	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Fatalf("the address is not free: %v", err)
	}

	listener.Close() //nolint:errcheck
}
