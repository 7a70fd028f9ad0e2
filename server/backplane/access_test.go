package backplane_test

// Who may connect: keys, credentials and certificates come from files.

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"penstock/server"
	"penstock/server/servertest"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// file writes a file that only this user reads.
func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// onlyWith judges that a node gets in with the settings, and is told why without.
func onlyWith(t *testing.T, n *natsd, with func(*server.Config)) {
	t.Helper()
	c := servertest.Config()
	On(n)(&c)
	soon(&c)
	if s, err := server.New(c, nil); err == nil {
		s.Close()
		t.Error("anybody gets in")
	} else if !strings.Contains(err.Error(), "may this user connect") {
		t.Errorf("error %v; want one that says what to look at", err)
	}
	node := servertest.Start(t, On(n), with)
	alice := node.Subscribe(t, "news")
	alice.WaitID(t, node.Publish(t, "news", "x"))
}

func TestNKeyFromAFile(t *testing.T) {
	t.Parallel()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	n := &natsd{options: natsOptions(t, "nats")}
	n.options.Nkeys = []*natsserver.NkeyUser{{Nkey: public}}
	n.start(t)
	t.Cleanup(n.stop)
	path := file(t, "user.nk", seed)
	onlyWith(t, n, func(c *server.Config) { c.NatsNKey = path })
	c := servertest.Config()
	On(n)(&c)
	c.NatsNKey = file(t, "bad.nk", []byte("no seed"))
	if _, err := server.New(c, nil); err == nil || !strings.Contains(err.Error(), c.NatsNKey) {
		t.Errorf("error %v; want one that names the file", err)
	}
}

func TestCredentialsFromAFile(t *testing.T) {
	t.Parallel()
	pair := func(kp nkeys.KeyPair, err error) (nkeys.KeyPair, string) {
		if err != nil {
			t.Fatal(err)
		}
		public, _ := kp.PublicKey()
		return kp, public
	}
	operator, operatorKey := pair(nkeys.CreateOperator())
	system, systemKey := pair(nkeys.CreateAccount())
	account, accountKey := pair(nkeys.CreateAccount())
	user, userKey := pair(nkeys.CreateUser())
	_ = system
	encode := func(c jwt.Claims, by nkeys.KeyPair) string {
		text, err := c.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	trusted := jwt.NewOperatorClaims(operatorKey)
	trusted.SystemAccount = systemKey
	ours := jwt.NewAccountClaims(accountKey)
	ours.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	resolver := &natsserver.MemAccResolver{}
	_ = resolver.Store(accountKey, encode(ours, operator))
	_ = resolver.Store(systemKey, encode(jwt.NewAccountClaims(systemKey), operator))
	n := &natsd{options: natsOptions(t, "nats")}
	n.options.TrustedOperators = []*jwt.OperatorClaims{trusted}
	n.options.SystemAccount = systemKey
	n.options.AccountResolver = resolver
	n.start(t)
	t.Cleanup(n.stop)
	seed, _ := user.Seed()
	creds, err := jwt.FormatUserConfig(encode(jwt.NewUserClaims(userKey), account), seed)
	if err != nil {
		t.Fatal(err)
	}
	path := file(t, "user.creds", creds)
	onlyWith(t, n, func(c *server.Config) { c.NatsCreds = path })
}

func TestCertificatesFromFiles(t *testing.T) {
	t.Parallel()
	authority, caFile, _ := certificate(t, nil, "authority")
	_, cert, key := certificate(t, authority, "127.0.0.1")
	_, nodeCert, nodeKey := certificate(t, authority, "node")
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	n := &natsd{options: natsOptions(t, "nats")}
	n.options.TLSTimeout = 10
	n.options.TLSConfig = &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: authority.pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	n.start(t)
	t.Cleanup(n.stop)
	onlyWith(t, n, func(c *server.Config) { c.NatsTLSCA, c.NatsTLSCert, c.NatsTLSKey = caFile, nodeCert, nodeKey })
}

// An authority signs.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

// certificate makes a certificate for a name, signed by another or by itself, in two files.
func certificate(t *testing.T, by *authority, name string) (self *authority, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: by == nil, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	self = &authority{cert: template, key: key, pool: x509.NewCertPool()}
	if by == nil {
		by = self
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, &key.PublicKey, by.key)
	if err != nil {
		t.Fatal(err)
	}
	if self.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	self.pool.AddCert(self.cert)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return self, file(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		file(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}
