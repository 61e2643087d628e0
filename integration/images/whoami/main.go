// Command whoami is the web server of the tests: it says its own name.
//
//	whoami [serve] [-tcp :8080,:8081] [-udp :8080]   GET / answers the host name and the port asked; a UDP packet gets the name back
//	whoami get URL                                  one GET on a fresh connection, two seconds to answer; prints the body
//	whoami udp ADDRESS                              one UDP packet from a fresh port, two seconds to answer; prints the answer
//	whoami api PATH                                 one GET to the API server, as a pod does it: address, token and CA from the pod itself
//
// GET /client adds the address that the server saw, and GET /exit?code=N ends the process.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func main() {
	log.SetFlags(0)
	args := os.Args[1:]
	if len(args) == 2 {
		ask, known := map[string]func(string) error{"get": get, "udp": udp, "api": askAPI}[args[0]]
		if known {
			if err := ask(args[1]); err != nil {
				log.Fatalf("%s %s: %v", args[0], args[1], err)
			}
			return
		}
	}
	if len(args) > 0 && args[0] == "serve" {
		args = args[1:]
	}
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	tcp := flags.String("tcp", ":8080", "comma-separated addresses for HTTP")
	udp := flags.String("udp", ":8080", "comma-separated addresses for UDP")
	_ = flags.Parse(args)
	if err := serve(strings.Split(*tcp, ","), strings.Split(*udp, ",")); err != nil {
		log.Fatal(err)
	}
}

func serve(tcp, udp []string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	failed := make(chan error)
	for _, address := range tcp {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		go func() { failed <- http.Serve(listener, handler(name, portOf(address))) }()
	}
	for _, address := range udp {
		socket, err := net.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		go func() { failed <- echoName(socket, name) }()
	}
	fmt.Printf("%s serves HTTP on %v and UDP on %v\n", name, tcp, udp)
	return <-failed
}

func handler(name, port string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%s %s\n", name, port) })
	mux.HandleFunc("/client", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "%s %s %s\n", name, port, r.RemoteAddr) })
	mux.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.URL.Query().Get("code"))
		if err != nil {
			code = 1
		}
		fmt.Printf("told to exit with code %d\n", code)
		os.Exit(code)
	})
	return mux
}

func portOf(address string) string {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return port
}

func echoName(socket net.PacketConn, name string) error {
	packet := make([]byte, 2048)
	for {
		_, from, err := socket.ReadFrom(packet)
		if err != nil {
			return err
		}
		if _, err := socket.WriteTo([]byte(name+"\n"), from); err != nil {
			log.Printf("answering %s over UDP: %v", from, err)
		}
	}
}
