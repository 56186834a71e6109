#!/bin/sh
# Makes the keys and certificates of the tests again, with openssl: `cd tests/tls/certs && sh make.sh`.
# They protect nothing. They are valid for 100 years, for the names and addresses that the tests use.
set -eu

here='DNS:localhost,DNS:tasks.example,IP:127.0.0.1,IP:::1,IP:10.203.7.1'

new_ca() { # NAME
    openssl ecparam -genkey -name prime256v1 -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key"
    openssl req -x509 -new -key "$1.key" -days 36500 -subj "/CN=Taskbell test $1" -out "$1.pem" \
        -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign'
}

new_server() { # NAME CA NAMES
    openssl ecparam -genkey -name prime256v1 -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key"
    openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
    printf 'subjectAltName=%s\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n' "$3" >"$1.ext"
    printf 'authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\nkeyUsage=critical,digitalSignature\n' >>"$1.ext"
    openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -days 36500 -extfile "$1.ext" -out "$1.pem"
    rm "$1.csr" "$1.ext"
}

new_ca ca
new_ca other-ca
new_server first ca "$here"
new_server second ca "$here"
# For a host that is not the one of the tests.
new_server elsewhere ca DNS:elsewhere.example
# The keys of the authorities are needed for nothing else.
rm ca.key other-ca.key
chmod 600 ./*.key
