package api_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/api/omnisyncd/v1/omnisyncdv1connect"
	"github.com/omni-syncd/omni-syncd/pkg/server/api"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
)

var procedures = []string{
	omnisyncdv1connect.StatusServiceListSourcesProcedure, omnisyncdv1connect.StatusServiceListClustersProcedure,
	omnisyncdv1connect.StatusServiceWatchStatusProcedure, omnisyncdv1connect.StatusServiceGetPlanProcedure,
	omnisyncdv1connect.StatusServiceListHistoryProcedure, omnisyncdv1connect.OperatorServiceReconcileProcedure,
	omnisyncdv1connect.OperatorServiceConfirmProcedure, omnisyncdv1connect.OperatorServiceSuspendProcedure,
	omnisyncdv1connect.OperatorServiceResumeProcedure, omnisyncdv1connect.AccessServiceGetKubeconfigProcedure,
	omnisyncdv1connect.AccessServiceGetTalosconfigProcedure, "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
	"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
}

var contentTypes = []string{
	"application/json", "application/proto", "application/connect+json", "application/connect+proto",
	"application/grpc", "application/grpc+json", "application/grpc-web+proto", "application/grpc-web-text",
}

// oneAnswer ends a request when its answer begins: a watch would go on.
type oneAnswer struct {
	*httptest.ResponseRecorder

	end context.CancelFunc
}

func (w *oneAnswer) Write(p []byte) (int, error) {
	defer w.end()

	return w.ResponseRecorder.Write(p)
}

// Whatever is sent to whichever procedure: it is answered, nothing panics, and every use
// of OperatorService is in the audit log.
func FuzzProcedures(f *testing.F) {
	name := "a"
	message, _ := proto.Marshal(&v1.ReconcileRequest{Cluster: &name, Wait: true})

	for procedure := range procedures {
		for contentType := range contentTypes {
			for _, body := range [][]byte{nil, []byte("{}"), []byte(`{"source": "test", "cluster": "a"}`), []byte(`{"source": "test", "cluster": "a", "wait": true}`), message, envelope("{}"), envelope(string(message))} {
				f.Add(uint8(procedure), uint8(contentType), "", body)
			}
		}
	}

	f.Add(uint8(5), uint8(0), "gzip", []byte("\x1f\x8b\x08"))
	f.Add(uint8(5), uint8(0), "identity", []byte(`{"cluster": "\u001b[2J\n"}`))

	w := start(f, nil)
	w.Apply(f, fleet("a", "m"))

	handler := api.New(w.config)

	f.Fuzz(func(t *testing.T, procedure, contentType uint8, encoding string, body []byte) {
		ctx, cancel := context.WithTimeout(auth.With(t.Context(), auth.Owner("fuzz")), 20*time.Millisecond)
		defer cancel()

		req := httptest.NewRequestWithContext(ctx, http.MethodPost, procedures[int(procedure)%len(procedures)], bytes.NewReader(body))
		req.ProtoMajor, req.ProtoMinor = 2, 0
		req.Header["Content-Type"] = []string{contentTypes[int(contentType)%len(contentTypes)]}
		req.Header["Content-Encoding"] = []string{encoding}

		res := &oneAnswer{httptest.NewRecorder(), cancel}
		handler.ServeHTTP(res, req)

		if code := res.Code; code >= 500 && code != http.StatusNotImplemented && code != http.StatusGatewayTimeout {
			t.Errorf("%s: %d %s", req.URL.Path, code, res.Body)
		}
	})
}
