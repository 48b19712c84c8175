"""Bitcoin Core and the nodes that come from it."""

from __future__ import annotations

from ..errors import HTTPStatusError
from ..retry.backoff import ExponentialBackoff
from ..retry.jitter import EqualJitter
from ._methods import MethodList
from ._preset import Preset

__all__ = ["bitcoin"]

# No globs: getnewaddress and getrawchangeaddress take an address from the wallet, getblockfrompeer asks a peer for a block.
# verifychain and gettxoutsetinfo only read, but for minutes: a node that did not answer in time must not be asked 35 times.
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
        "gettxspendingprevout",
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
"""The methods of Bitcoin Core that read or compute, and change neither node nor wallet. What is not in it is not repeated where it may
have been executed."""


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

    * JSON-RPC code -28, ``RPC_IN_WARMUP`` (``rpc/protocol.h``): in Bitcoin Core the node loads its blocks, and answers every call so;
      nodes that come from it may answer so for longer. Every method goes again, ``sendtoaddress`` too.
    * HTTP 500 with the text "Work queue depth exceeded", and HTTP 503, by which later versions say the same (``httpserver.cpp``): more calls
      came than ``-rpcworkqueue`` has places for. Only methods that read go again. An HTTP 500 around a JSON-RPC error is
      that error, whose code decides.
    * HTTP 429, and 503 with Retry-After (of a proxy), a connection that was never made: every method goes again. So a node that does
      not run at all is waited for, too.
    * HTTP 408, 502 and 504 (of a proxy), a connection that broke, a timeout: methods that read go again. The list names each of
      them, after Bitcoin Core's RPC documentation (bitcoincore.org/en/doc) and the "RPC API Reference" of developer.bitcoin.org;
      ``send*``, ``sign*``, ``import*``, ``wallet*``, ``getnewaddress`` and
      whatever else is not in it do not. ``verifychain`` and ``gettxoutsetinfo`` read, but are too dear to be made 35 times;
      ``bitcoin.extended(idempotent="gettxoutsetinfo")`` gives one back.
    * 34 retries within 0.5, 1, 2, 4, 8 s and then 10 s each, never less than half of that: 2.5 to 5 minutes of waiting. The attempts come on
      top, each of up to 30 s by the client's default ``timeout``. Nothing bounds a warm-up, so these minutes are a choice. They hold for
      all that is retried, so give the client a ``deadline`` where nobody can wait that long.
    """,
)
