"""Bitcoin Core and the nodes that come from it."""

from __future__ import annotations

from ..errors import HTTPStatusError
from ..retry.backoff import ExponentialBackoff
from ..retry.jitter import EqualJitter
from ._methods import MethodList
from ._preset import Preset

__all__ = ["bitcoin"]

# No globs: getnewaddress and getrawchangeaddress take an address from the wallet, getblockfrompeer asks a peer for a block.
METHODS = MethodList(
    {
        # blockchain
        "getbestblockhash",
        "getblock",
        "getblockchaininfo",
        "getblockcount",
        "getblockfilter",
        "getblockhash",
        "getblockheader",
        "getblockstats",
        "getchainstates",
        "getchaintips",
        "getchaintxstats",
        "getdeploymentinfo",
        "getdifficulty",
        "getmempoolancestors",
        "getmempooldescendants",
        "getmempoolentry",
        "getmempoolinfo",
        "getrawmempool",
        "gettxout",
        "gettxoutproof",
        "gettxoutsetinfo",
        "gettxspendingprevout",
        "verifychain",
        "verifytxoutproof",
        # control, mining, network
        "getmemoryinfo",
        "getrpcinfo",
        "help",
        "uptime",
        "getmininginfo",
        "getnetworkhashps",
        "getprioritisedtransactions",
        "getaddednodeinfo",
        "getaddrmaninfo",
        "getconnectioncount",
        "getnettotals",
        "getnetworkinfo",
        "getnodeaddresses",
        "getpeerinfo",
        "listbanned",
        # transactions and tools, which compute and keep nothing
        "analyzepsbt",
        "combinepsbt",
        "combinerawtransaction",
        "createmultisig",
        "createpsbt",
        "createrawtransaction",
        "decodepsbt",
        "decoderawtransaction",
        "decodescript",
        "deriveaddresses",
        "estimaterawfee",
        "estimatesmartfee",
        "getdescriptorinfo",
        "getindexinfo",
        "getrawtransaction",
        "getzmqnotifications",
        "testmempoolaccept",
        "validateaddress",
        "verifymessage",
        # wallet
        "getaddressesbylabel",
        "getaddressinfo",
        "getbalance",
        "getbalances",
        "getreceivedbyaddress",
        "getreceivedbylabel",
        "gettransaction",
        "getunconfirmedbalance",
        "getwalletinfo",
        "listaddressgroupings",
        "listdescriptors",
        "listlabels",
        "listlockunspent",
        "listreceivedbyaddress",
        "listreceivedbylabel",
        "listsinceblock",
        "listtransactions",
        "listunspent",
        "listwalletdir",
        "listwallets",
    }
)
"""The methods of Bitcoin Core that read or compute, and change neither node nor wallet. What is not in it is not repeated."""


def _queue_is_full(error: Exception) -> bool:
    return isinstance(error, HTTPStatusError) and error.status == 500 and "work queue depth exceeded" in error.excerpt.lower()


bitcoin = Preset(
    "bitcoin",
    methods=METHODS,
    codes=-28,
    failures=_queue_is_full,
    # At the most 0.5, 1, 2, 4 and 8 s, then 29 times 10 s.
    backoff=ExponentialBackoff(attempts=34, base=0.5, factor=2.0, max_value=10.0, jitter=EqualJitter()),
    doc="""For Bitcoin Core and the nodes that come from it.

    * JSON-RPC code -28, ``RPC_IN_WARMUP`` (Bitcoin Core, ``rpc/protocol.h``): the node loads its blocks, and answers every call so at
      once (``rpc/server.h``). Every method goes again, ``sendtoaddress`` too.
    * HTTP 500 with the text "Work queue depth exceeded", and HTTP 503, by which later versions say the same (``httpserver.cpp``): more calls
      came than ``-rpcworkqueue`` has places for. Only methods that read go again. An HTTP 500 around a JSON-RPC error is
      that error, whose code decides.
    * HTTP 429, and 503 with Retry-After (of a proxy): every method goes again.
    * HTTP 408, 502 and 504 (of a proxy), a connection that broke, a timeout: methods that read go again. The list names each of
      them, after Bitcoin Core's RPC documentation (bitcoincore.org/en/doc) and the "RPC API Reference" of developer.bitcoin.org;
      ``send*``, ``sign*``, ``import*``, ``wallet*``, ``getnewaddress`` and
      whatever else is not in it never do.
    * 34 retries within 0.5, 1, 2, 4, 8 s and then 10 s each, never less than half of that: 2.5 to 5 minutes in all. Nothing bounds a
      warm-up: ``bitcoin-cli -rpcwait`` asks every second without an end (``bitcoin-cli.cpp``). These minutes are a choice. They hold for all that
      is retried, so give the client a ``deadline`` where nobody can wait that long.
    """,
)
