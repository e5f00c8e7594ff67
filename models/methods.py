"""The methods by their names. A method is a folder beside this file and a line in it; no other file names one."""

from models.ast.method import AST
from models.btf.method import BTF
from models.cfm.method import CFM
from models.dbmrnet.method import DBMRNet
from models.m3dm.method import M3DM
from models.method import Method

METHODS: dict[str, Method] = {
    "cfm": CFM(),
    "dbmrnet": DBMRNet(),
    "btf": BTF(),
    "m3dm": M3DM(),
    "ast": AST(),
}
