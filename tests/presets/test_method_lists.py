"""Which methods each preset takes for safe to execute twice, and the lists that say so."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcretry import Request, RetryStrategy, presets
from rpcretry.presets import MethodList


def words(text: str) -> list[str]:
    return text.split()


def may(preset: presets.Preset, method: str, params: Any = None) -> bool:
    """Asked as the idempotency layer asks."""
    return preset.is_idempotent(Request(method, params))


# --- ethereum ---

READS = words("""
eth_accounts eth_blobBaseFee eth_blockNumber eth_call eth_chainId eth_coinbase eth_createAccessList eth_estimateGas eth_feeHistory eth_gasPrice
eth_getBalance eth_getBlockByHash eth_getBlockByNumber eth_getBlockReceipts eth_getBlockTransactionCountByHash eth_getCode eth_getFilterLogs
eth_getLogs eth_getProof eth_getStorageAt eth_getTransactionByHash eth_getTransactionCount eth_getTransactionReceipt eth_getUncleCountByBlockNumber
eth_maxPriorityFeePerGas eth_simulateV1 eth_syncing net_version net_peerCount net_listening web3_clientVersion web3_sha3 rpc_modules
trace_block trace_call trace_filter trace_transaction debug_traceTransaction debug_traceCall debug_traceBlockByNumber debug_getRawBlock
txpool_content txpool_status
""")

ACTS = words("""
eth_sendTransaction eth_sendRawTransaction eth_sendRawTransactionSync eth_sendBundle eth_sendUserOperation eth_sendPrivateTransaction eth_sign
eth_signTransaction eth_signTypedData eth_signTypedData_v4 eth_submitWork eth_submitHashrate eth_resend eth_newFilter eth_newBlockFilter
eth_newPendingTransactionFilter eth_uninstallFilter eth_getFilterChanges eth_getWork eth_subscribe eth_unsubscribe personal_sendTransaction
personal_unlockAccount personal_newAccount personal_sign miner_start miner_stop miner_setGasPrice admin_addPeer admin_startHTTP engine_newPayloadV4
engine_forkchoiceUpdatedV3 debug_setHead debug_startCPUProfile debug_writeMemProfile txpool_clear wallet_addEthereumChain anvil_mine evm_increaseTime
hardhat_setBalance evm_snapshot no_such_method eth_ eth ETH_CALL eth_call2
""")


@pytest.mark.parametrize("method", READS)
def test_what_reads_the_chain_goes_again(method: str) -> None:
    assert may(presets.ethereum, method)


@pytest.mark.parametrize("method", ACTS)
def test_what_acts_on_the_chain_or_the_node_does_not(method: str) -> None:
    assert not may(presets.ethereum, method)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["eth_send", "personal_", "eth_sign", "miner_", "admin_", "eth_new", "eth_submit"]),
    st.text(max_size=30),
    st.lists(st.integers(), max_size=2),
)
def test_nothing_that_begins_like_an_act_ever_goes_again(beginning: str, rest: str, params: list[int]) -> None:
    assert not may(presets.ethereum, beginning + rest, params)


# --- bitcoin ---

BITCOIN_ACTS = words("""
sendtoaddress sendmany send sendall sendrawtransaction sendmsgtopeer submitblock submitheader submitpackage getnewaddress getrawchangeaddress
getblockfrompeer createwallet createwalletdescriptor loadwallet unloadwallet backupwallet restorewallet encryptwallet walletpassphrase walletlock
walletpassphrasechange walletcreatefundedpsbt walletprocesspsbt fundrawtransaction signrawtransactionwithwallet signrawtransactionwithkey signmessage
signmessagewithprivkey importprivkey importaddress importdescriptors importmulti keypoolrefill lockunspent setlabel settxfee setwalletflag bumpfee
psbtbumpfee abandontransaction rescanblockchain generatetoaddress generateblock prioritisetransaction preciousblock invalidateblock reconsiderblock
pruneblockchain savemempool importmempool dumptxoutset loadtxoutset dumpprivkey dumpwallet addnode disconnectnode setban clearbanned setnetworkactive
stop ping logging scantxoutset waitfornewblock getblocktemplate migratewallet GETBLOCK getblock2 get
""")


@pytest.mark.parametrize("method", BITCOIN_ACTS)
def test_what_changes_the_node_or_the_wallet_does_not_go_again(method: str) -> None:
    assert not may(presets.bitcoin, method)


@pytest.mark.parametrize(
    "method", ["getblockcount", "getblock", "getrawtransaction", "gettxout", "listunspent", "getbalance", "estimatesmartfee", "testmempoolaccept"]
)
def test_what_reads_the_node_or_the_wallet_does(method: str) -> None:
    assert may(presets.bitcoin, method)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["send", "sign", "import", "wallet", "set", "generate", "submit", "dump"]), st.text(max_size=20))
def test_no_name_that_begins_like_an_act_is_in_the_list(beginning: str, rest: str) -> None:
    assert not may(presets.bitcoin, beginning + rest)


# --- odoo ---


def execute_kw(model: Any, method: Any, *args: Any) -> dict[str, Any]:
    return {"service": "object", "method": "execute_kw", "args": ["db", 2, "hunter2", model, method, *args]}


ODOO_READS = [
    execute_kw("res.partner", "search", [[["is_company", "=", True]]]),
    execute_kw("res.partner", "search_read", [[]], {"fields": ["name"]}),
    execute_kw("res.partner", "read", [[7]]),
    execute_kw("res.partner", "search_count", [[]]),
    execute_kw("res.partner", "fields_get", []),
    execute_kw("account.move.line", "read_group", [[], ["balance"], ["partner_id"]]),
    execute_kw("res.partner", "name_search", ["Ada"]),
    execute_kw("res.partner", "check_access_rights", ["read"]),
    {"service": "object", "method": "execute", "args": ["db", 2, "hunter2", "res.partner", "read", [7], ["name"]]},
    {"service": "common", "method": "version", "args": []},
    {"service": "common", "method": "login", "args": ["db", "admin", "hunter2"]},
    {"service": "common", "method": "authenticate", "args": ["db", "admin", "hunter2", {}]},
    {"service": "common", "method": "version"},
]

ODOO_ACTS = [
    execute_kw("res.partner", "create", [{"name": "Ada"}]),
    execute_kw("res.partner", "write", [[7], {"name": "Ada"}]),
    execute_kw("res.partner", "unlink", [[7]]),
    execute_kw("res.partner", "copy", [7]),
    execute_kw("account.move", "action_post", [[7]]),
    execute_kw("sale.order", "search_and_confirm", [[]]),
    execute_kw("sale.order", "read_and_close", [[]]),
    execute_kw("res.partner", "name_create", ["Ada"]),
    execute_kw("res.partner", "default_get", [["name"]]),
    execute_kw("res.partner", "message_post", [[7]]),
    {"service": "object", "method": "execute", "args": ["db", 2, "hunter2", "res.partner", "create", {"name": "read"}]},
    {"service": "object", "method": "exec_workflow", "args": ["db", 2, "hunter2", "sale.order", "read", 1]},
    {"service": "db", "method": "drop", "args": ["master", "db"]},
    {"service": "db", "method": "create_database", "args": []},
    {"service": "common", "method": "set_loglevel", "args": []},
    # Shapes that say nothing: not repeated, and no error.
    {"service": "object", "method": "execute_kw", "args": []},
    {"service": "object", "method": "execute_kw", "args": "db 2 pw res.partner read"},
    {"service": "object", "method": "execute_kw"},
    execute_kw(None, "read"),
    execute_kw("res.partner", ["read"]),
    {"service": ["common"], "method": "version", "args": []},
    {"service": "common", "method": None},
    {"model": "res.partner", "method": "read"},
    {},
    ["object", "execute_kw", []],
    [],
    None,
]


@pytest.mark.parametrize("params", ODOO_READS, ids=str)
def test_what_reads_records_goes_again(params: Any) -> None:
    assert may(presets.odoo, "call", params)


@pytest.mark.parametrize("params", ODOO_ACTS, ids=str)
def test_what_changes_records_or_cannot_be_read_does_not(params: Any) -> None:
    assert not may(presets.odoo, "call", params)


def test_the_params_count_only_in_a_call() -> None:
    assert not may(presets.odoo, "execute", ODOO_READS[0])
    # A method of the wire that looks like an entry of the list.
    assert may(presets.odoo, "common.version")
    assert not may(presets.odoo, "read")


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "common", "execute_kw", "create", "write", "res.partner"]) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["service", "method", "args"]), inner, max_size=3),
        max_leaves=20,
    ).filter(lambda params: isinstance(params, (list, dict)))
)
def test_no_params_at_all_break_the_lists(params: Any) -> None:
    assert not may(presets.odoo, "call", params)
    assert not may(presets.aria2, "system.multicall", params)


# --- aria2 ---

ARIA2_READS = words("""
aria2.tellStatus aria2.tellActive aria2.tellWaiting aria2.tellStopped aria2.getUris aria2.getFiles aria2.getPeers aria2.getServers aria2.getOption
aria2.getGlobalOption aria2.getGlobalStat aria2.getVersion aria2.getSessionInfo system.listMethods system.listNotifications
""")

ARIA2_ACTS = words("""
aria2.addUri aria2.addTorrent aria2.addMetalink aria2.remove aria2.forceRemove aria2.pause aria2.forcePause aria2.pauseAll aria2.forcePauseAll
aria2.unpause aria2.unpauseAll aria2.changePosition aria2.changeUri aria2.changeOption aria2.changeGlobalOption aria2.purgeDownloadResult
aria2.removeDownloadResult aria2.shutdown aria2.forceShutdown aria2.saveSession
""")


def multicall(*methods: Any) -> list[Any]:
    return [[{"methodName": method, "params": ["token:s3cret"]} for method in methods]]


def test_the_reads_of_aria2() -> None:
    assert [method for method in ARIA2_READS if not may(presets.aria2, method)] == []
    assert [method for method in ARIA2_ACTS if may(presets.aria2, method)] == []


def test_a_multicall_goes_again_if_all_of_its_calls_do() -> None:
    assert may(presets.aria2, "system.multicall", multicall("aria2.getVersion", "aria2.tellStatus"))
    assert not may(presets.aria2, "system.multicall", multicall("aria2.getVersion", "aria2.addUri"))
    assert not may(presets.aria2, "system.multicall", multicall("aria2.getVersion", "system.multicall"))


@pytest.mark.parametrize(
    "params",
    [
        None,
        [],
        [[]],
        [{}],
        ["aria2.getVersion"],
        multicall(None),
        multicall(3),
        [[{"params": []}]],
        [["aria2.getVersion"]],
        [[{"methodName": "aria2.getVersion"}], []],
        {"methods": []},
    ],
    ids=str,
)
def test_a_multicall_that_cannot_be_read_does_not(params: Any) -> None:
    assert not may(presets.aria2, "system.multicall", params)


# --- transient ---


def test_of_an_unknown_server_nothing_is_known() -> None:
    assert not any(may(presets.transient, method) for method in [*READS, *ARIA2_READS, "get", "read"])


# --- the list itself ---


@pytest.mark.parametrize(
    ("methods", "allowed", "refused"),
    [
        (MethodList(), [], ["a", ""]),
        (MethodList("a"), ["a"], ["b", "aa", "A"]),
        (MethodList(["a", "get_*"], never="get_lock*"), ["a", "get_", "get_x"], ["get_lock", "get_locks", "x"]),
        (MethodList(iter(["a"]), never=iter(["b"])), ["a"], ["b"]),
        (MethodList(True, never={"pay"}), ["a", "b"], ["pay"]),
        (MethodList(False), [], ["a"]),
        (MethodList(lambda request: request.method in ("a", "pay"), never="pay"), ["a"], ["pay", "b"]),
        (MethodList(["a", "b"]).extended(never="a"), ["b"], ["a"]),
        (MethodList("a", never="b").extended("b"), ["a", "b"], ["c"]),
        (MethodList("a", never="b*").extended("b1").extended(never="b1"), ["a"], ["b1"]),
        (MethodList("a").extended(True), ["a", "b"], []),
        (MethodList("a").extended(False), ["a"], ["b"]),
        (MethodList("a").extended(MethodList("get_*", never="get_b")), ["a", "get_a"], ["get_b"]),
        (MethodList("[ab]?"), ["ax", "bx"], ["a", "c", "[ab]?x"]),
    ],
    ids=repr,
)
def test_the_last_word_is_asked_first(methods: MethodList, allowed: list[str], refused: list[str]) -> None:
    assert [name for name in allowed if not methods(Request(name))] == []
    assert [name for name in refused if name and methods(Request(name))] == []


def test_it_serves_any_strategy() -> None:
    strategy = RetryStrategy(codes={2001}, idempotent=MethodList("get_*", never="get_lock"))
    assert strategy.is_idempotent(Request("get_price"))
    assert not strategy.is_idempotent(Request("get_lock"))


def test_what_a_request_calls_may_stand_elsewhere() -> None:
    methods = MethodList("read", names_of=lambda request: list(request.params))
    assert methods(Request("run", ["read", "read"]))
    assert not methods(Request("run", ["read", "write"]))
    assert not methods(Request("run", []))
    assert methods.extended("write")(Request("run", ["read", "write"]))


def test_it_shows_what_it_holds() -> None:
    methods = MethodList("a", never="b").extended(["c", "d"], never="e")
    assert (methods.names, methods.never) == ({"a", "c", "d"}, {"b", "e"})
    assert repr(methods) == "MethodList(['a', 'c', 'd'], never=['b', 'e'])"
    assert "eth_get*" in presets.ethereum.methods.names
    assert "eth_send*" in presets.ethereum.methods.never
    assert "getblockcount" in presets.bitcoin.methods.names
    assert "*.search_read" in presets.odoo.methods.names
    assert "aria2.tellStatus" in presets.aria2.methods.names


def test_it_does_not_change() -> None:
    methods = MethodList("a")
    methods.extended("b", never="a")
    assert (methods.names, methods.never) == ({"a"}, frozenset())
    with pytest.raises(AttributeError, match=r"a MethodList is immutable; extended\(\.\.\.\) makes another one"):
        methods.names = frozenset("b")
    with pytest.raises(AttributeError, match="immutable"):
        del methods.names


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["copy", "deepcopy", "pickle"])
def test_it_is_copied_and_pickled(copied: Any) -> None:
    methods = copied(presets.ethereum.methods)
    assert methods(Request("eth_call"))
    assert not methods(Request("eth_getFilterChanges"))
    assert repr(methods) == repr(presets.ethereum.methods)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MethodList(3), "idempotent must be callable, got int 3"),
        (lambda: MethodList([3]), "idempotent takes method names and globs, got int 3"),
        (lambda: MethodList("a", never=3), "never takes method names and globs, got int 3"),
        (lambda: MethodList("a", never=["b", None]), "never takes method names and globs, got NoneType None"),
        (lambda: MethodList("a", never=lambda request: True), "never takes method names and globs, got function"),
        (lambda: MethodList("a", names_of=3), "names_of must be callable, got int 3; it gets the request"),
        (lambda: MethodList("a", names_of=lambda: ["a"]), "names_of must be callable with 1 argument"),
        (lambda: MethodList("a").extended(lambda: True), "idempotent must be callable with 1 argument"),
        (lambda: MethodList(lambda request: 1)(Request("a")), "idempotent must return True or False, got int 1"),
    ],
)
def test_bad_input_is_named(build: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message.replace("(", r"\(")):
        build()
